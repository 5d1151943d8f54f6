package peer;

import java.util.Map;
import org.apache.kafka.streams.state.RocksDBConfigSetter;
import org.rocksdb.BlockBasedTableConfig;
import org.rocksdb.BloomFilter;
import org.rocksdb.Cache;
import org.rocksdb.CompressionType;
import org.rocksdb.LRUCache;
import org.rocksdb.Options;

/**
 * One cache of blocks for all stores of the process, filters that let a key that isn't there cost nothing, write
 * buffers in which the first half of a pair usually still is when the second comes, and a quick compression.
 */
public final class RocksOptions implements RocksDBConfigSetter {
    private static final long CACHE_BYTES = 128L << 20;
    private static final long WRITE_BUFFER_BYTES = 32L << 20;

    private static Cache cache;
    private static BloomFilter filter;

    @Override
    public void setConfig(String store, Options options, Map<String, Object> configs) {
        synchronized (RocksOptions.class) {
            if (cache == null) {
                cache = new LRUCache(CACHE_BYTES);
                filter = new BloomFilter(10);
            }
        }
        BlockBasedTableConfig table = (BlockBasedTableConfig) options.tableFormatConfig();
        table.setBlockCache(cache);
        table.setFilterPolicy(filter);
        table.setCacheIndexAndFilterBlocks(true);
        table.setPinL0FilterAndIndexBlocksInCache(true);
        options.setTableFormatConfig(table);
        options.setWriteBufferSize(WRITE_BUFFER_BYTES);
        options.setMaxWriteBufferNumber(3);
        options.setCompressionType(CompressionType.LZ4_COMPRESSION);
    }

    @Override
    public void close(String store, Options options) {
        // The cache and the filter are the process's: they are shared by all stores, and end with it.
    }
}
