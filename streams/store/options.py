"""
RocksDB's options: one budget of memory for all partitions of a process.

Write buffers and cached blocks are both charged to one cache, so their sum stays near the budget however many
partitions there are. On top come what a burst writes faster than it can be flushed, and the compactions' working
memory. Three quarters may be write buffers: a row that is still in one takes half the time to read, and the two halves
of an order mostly come soon after one another.

The write-ahead log is off: the changelog is the log. What a killed process had only in memory is restored from there,
from the checkpoint that was written with the data.

Source: RocksDB's wiki, "Write Buffer Manager", "Block Cache", "HyperClockCache".
"""

from __future__ import annotations

from typing import Final

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    WriteBufferManager,
    WriteOptions,
)

_WRITE_BUFFER_BYTES_MAX: Final = 32 << 20
"""Larger ones take fresh memory from the system all the time, which costs more than what they save."""
_BLOOM_BITS_PER_KEY: Final = 10
_BUFFER_BLOOM_RATIO: Final = 0.05
"""Of a write buffer's size."""
_OPEN_FILES_MAX: Final = 256
_LOG_BYTES_MAX: Final = 1 << 20
_LOG_FILES_MAX: Final = 2


class StoreOptions:
    """The options that all partitions of a process share, with their cache and the bound of their write buffers."""

    def __init__(self, memory_mib: int) -> None:
        """Divide *memory_mib* (MiB, of all partitions together)."""
        budget = memory_mib << 20
        # Without locks, unlike the LRU cache: a third less time for a row that is in a cached block.
        self._cache = Cache.new_hyper_clock_cache(budget, estimated_entry_charge=0)
        self._buffers = WriteBufferManager.new_write_buffer_manager_with_cache(
            budget * 3 // 4, allow_stall=False, cache=self._cache
        )
        self.database = _database(self._cache, self._buffers)
        self.write = WriteOptions()
        # A property in the library, a method in its type stub.
        self.write.disable_wal = True  # type: ignore[method-assign, assignment]

    @property
    def memory_bytes(self) -> int:
        """Bytes of write buffers and cached blocks now, all partitions together."""
        return self._cache.get_usage()


def _database(cache: Cache, buffers: WriteBufferManager) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_manager(buffers)
    options.set_write_buffer_size(min(_WRITE_BUFFER_BYTES_MAX, buffers.get_buffer_size() // 2))
    # One thread writes a partition; what makes concurrent inserts safe only costs time.
    options.set_allow_concurrent_memtable_write(False)
    # As below, for what isn't on disk yet: half the time of a look for what isn't there.
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(_BUFFER_BLOOM_RATIO)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_open_files(_OPEN_FILES_MAX)
    # RocksDB's own log files have no bound by default.
    options.set_max_log_file_size(_LOG_BYTES_MAX)
    options.set_keep_log_file_num(_LOG_FILES_MAX)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(cache)
    # An order that is new is looked up before it is written; the filter answers without a read.
    blocks.set_bloom_filter(_BLOOM_BITS_PER_KEY, block_based=False)
    # Else indexes and filters would grow with the data, outside the budget.
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options.set_block_based_table_factory(blocks)
    return options
