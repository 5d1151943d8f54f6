# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: auto_pickle=False, binding=False
"""
The short way in C: what `straight` decides, from a record's bytes to a row's and an output's, without Python between.

It goes through a slice's records until it meets one that isn't plainly one of the five cells of `straight`, and leaves
that one to Python: another record or schema, a header that changes what it says, a row of another shape, anything
broken. So it never refuses and never explains; what it does decide is byte for byte what `straight` makes of it, by
tests that decide everything both ways, and by the simulator.

The values of records are read by a program that `schemas.program` makes of their schema. All reads are within the
bytes at hand: each function that moves on says so in its return value, and nothing is taken on trust from a row or a
record. Layouts are those of `schemas.straight_rows`, which the constructor compares with what is written here.

Sources: RFC 3174 (SHA-1), RFC 9562 (UUID version 5), Apache Avro specification 1.12, "Binary Encoding".
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Contains, PyDict_GetItem, PyDict_SetItem
from cpython.list cimport PyList_Append, PyList_CheckExact, PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy

cdef extern from *:
    """
    #define swapped16 __builtin_bswap16
    #define swapped32 __builtin_bswap32
    #define swapped64 __builtin_bswap64
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "the kernel's numbers are turned around: it is written for little-endian machines"
    #endif
    """
    uint16_t swapped16(uint16_t) noexcept
    uint32_t swapped32(uint32_t) noexcept
    uint64_t swapped64(uint64_t) noexcept
    object PyType_GenericAlloc(PyTypeObject*, Py_ssize_t)


# What stands in `schemas.straight_rows`, `state_codec` and `timeline_codec`; `Kernel` compares.

LAYOUTS = {
    "head": ">Bq?HHH", "body": ">II", "details": ">qHqBq", "process": ">BBqqqIIIIHHHIiI",
    "CommandReceived": ">BqBq", "OrderDetailsQueried": ">BqBqI", "OrderDetailsRetrieved": ">BqBqq",
    "EmailRequested": ">BqBqI", "EmailSent": ">BqBq",
}

cdef enum:
    VERSION = 1
    HEAD_BYTES = 16
    COUNTS_AT = 9
    COUNTS_BYTES = 7
    BODY_BYTES = 8
    DETAILS_BYTES = 27
    PROCESS_BYTES = 60
    RECEIVED_BYTES = 18
    QUERIED_BYTES = 22
    RETRIEVED_BYTES = 26
    REQUESTED_BYTES = 22
    SENT_BYTES = 18
    MET_BYTES = 48  # retrieved, requested
    WHOLE_BYTES = 66  # received, retrieved, requested
    FRAME_BYTES = 5
    UUID_BYTES = 36
    UUID_LENGTH = 0x48  # 36, as Avro writes it.
    CHARS_MAX = 256  # `streams.headers.COPIED_CHARS_MAX`
    NEVER_ASK = -1
    KEY_MAX = 1_024  # What is longer is rare, and Python's.
    SLOTS = 4
    PENDING = 8


# Reading a value: the operations of `schemas.program`.

cdef enum:
    STRING = 1
    UUID = 2
    LONG = 3
    INT = 4
    BOOLEAN = 5
    INDEX = 6
    UNION = 7
    BLOCKS = 8
    BYTES = 9
    SIZED = 10
    BEGIN = 11
    END = 12

OPERATIONS = {
    "string": STRING, "uuid": UUID, "long": LONG, "int": INT, "boolean": BOOLEAN, "index": INDEX, "union": UNION,
    "blocks": BLOCKS, "bytes": BYTES, "sized": SIZED, "begin": BEGIN, "end": END,
}

cdef struct Found:
    const uint8_t* at
    Py_ssize_t size
    int64_t number


cdef inline const uint8_t* _long(const uint8_t* p, const uint8_t* e, int most_bytes, int last_most, int64_t* found) noexcept:
    """Read a number of at most *most_bytes*, the last of which is *last_most* at most; NULL: it isn't one."""
    cdef uint64_t n = 0
    cdef int shift = 0, size = 0
    cdef uint8_t byte
    while True:
        if p >= e:
            return NULL
        byte = p[0]
        p += 1
        size += 1
        if size > most_bytes:
            return NULL
        n |= <uint64_t> (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    if size > 1 and (byte == 0 or (size == most_bytes and byte > last_most)):
        return NULL
    found[0] = <int64_t> (n >> 1) ^ -<int64_t> (n & 1)
    return p


cdef inline bint _text(const uint8_t* p, Py_ssize_t size) noexcept:
    """Return whether these bytes are UTF-8."""
    cdef const uint8_t* e = p + size
    cdef uint64_t word
    while e - p >= 8:
        memcpy(&word, p, 8)
        if word & <uint64_t> 0x8080808080808080:
            return _utf8(p, e - p)
        p += 8
    while p < e:
        if p[0] > 127:
            return _utf8(p, e - p)
        p += 1
    return True


cdef bint _utf8(const uint8_t* p, Py_ssize_t size) noexcept:
    # Python's own judgement, so that there is one. What came before is ASCII, so this begins a character.
    try:
        PyUnicode_DecodeUTF8(<const char*> p, size, NULL)
    except UnicodeDecodeError:
        return False
    return True


cdef inline bint _ascii(const uint8_t* p, Py_ssize_t size) noexcept:
    cdef Py_ssize_t i
    for i in range(size):
        if p[i] > 127:
            return False
    return True


cdef inline bint _uuid(const uint8_t* p) noexcept:
    """Return whether these 36 bytes are a UUID's text."""
    cdef int i
    cdef uint8_t byte
    for i in range(UUID_BYTES):
        byte = p[i]
        if i == 8 or i == 13 or i == 18 or i == 23:
            if byte != c"-":
                return False
        elif not (c"0" <= byte <= c"9" or c"a" <= byte <= c"f" or c"A" <= byte <= c"F"):
            return False
    return True


cdef const uint8_t* _run(
    const int32_t* code, const int32_t* code_end, const uint8_t* p, const uint8_t* e, Found* slots
) noexcept:
    """Read by the operations from *code* on; return where the value ends, NULL: it is none, or left to Python."""
    cdef int32_t op, slot, n, branch
    cdef int64_t number, items
    cdef const uint8_t* before
    cdef const int32_t* at
    while code < code_end:
        op = code[0]
        n = code[1]
        code += 2
        if op == STRING:
            p = _long(p, e, 10, 1, &number)
            if p == NULL or number < 0 or number > e - p or not _text(p, number):
                return NULL
            if n >= 0:
                slots[n].at, slots[n].size = p, number
            p += number
        elif op == LONG:
            p = _long(p, e, 10, 1, &number)
            if p == NULL:
                return NULL
            if n >= 0:
                slots[n].number = number
        elif op == INT:
            p = _long(p, e, 5, 15, &number)
            if p == NULL:
                return NULL
        elif op == UUID:
            if e - p < 1 + UUID_BYTES or p[0] != UUID_LENGTH or not _uuid(p + 1):
                return NULL
            if n >= 0:
                slots[n].at, slots[n].size = p + 1, UUID_BYTES
            p += 1 + UUID_BYTES
        elif op == BEGIN:
            slots[n].at = p
        elif op == END:
            slots[n].size = p - slots[n].at
        elif op == UNION:
            # Then the length of each branch's operations, and these.
            if p >= e or p[0] & 1 or p[0] >= 2 * n:
                return NULL
            branch = p[0] >> 1
            p += 1
            at = code + n
            for slot in range(branch):
                at += code[slot]
            p = _run(at, at + code[branch], p, e, slots)
            if p == NULL:
                return NULL
            for slot in range(branch, n):
                at += code[slot]
            code = at
        elif op == BLOCKS:
            # Then the operations of an item, n numbers.
            while True:
                p = _long(p, e, 10, 1, &items)
                if p == NULL or items < 0:
                    return NULL
                if items == 0:
                    break
                while items:
                    before = p
                    p = _run(code, code + n, p, e, slots)
                    if p == NULL or p == before:
                        return NULL
                    items -= 1
            code += n
        elif op == BOOLEAN:
            if p >= e or p[0] > 1:
                return NULL
            p += 1
        elif op == INDEX:
            if p >= e or p[0] & 1 or p[0] >= 2 * n:
                return NULL
            p += 1
        elif op == BYTES:
            p = _long(p, e, 10, 1, &number)
            if p == NULL or number < 0 or number > e - p:
                return NULL
            p += number
        elif op == SIZED:
            if e - p < n:
                return NULL
            p += n
        else:
            return NULL
    return p


cdef inline bytes _bytes(const void* data, Py_ssize_t size):
    return PyBytes_FromStringAndSize(<const char*> data, size)


cdef inline const uint8_t* _at(bytes value) noexcept:
    return <const uint8_t*> PyBytes_AS_STRING(value)


cdef class _Program:
    """What reads the values of one record."""

    cdef int32_t* code
    cdef Py_ssize_t size

    def __cinit__(self, operations):
        self.size = len(operations)
        self.code = <int32_t*> PyMem_Malloc((self.size + 1) * sizeof(int32_t))
        if self.code == NULL:
            raise MemoryError
        for i, number in enumerate(operations):
            self.code[i] = number

    def __dealloc__(self):
        PyMem_Free(self.code)


def read(operations, bytes value, Py_ssize_t start, taken):
    """
    Return what a program takes out of *value* from *start* on, None if it doesn't read it: for tests of programs.

    *taken* says of each slot whether it is a number, or bytes.
    """
    cdef _Program program = _Program(operations)
    cdef Found[SLOTS] slots
    cdef const uint8_t* p = _at(value)
    cdef const uint8_t* e = p + PyBytes_GET_SIZE(value)
    if len(taken) > SLOTS or not 0 <= start <= PyBytes_GET_SIZE(value):
        raise ValueError
    if _run(program.code, program.code + program.size, p + start, e, slots) != e:
        return None
    return tuple(
        [slots[i].number if number else _bytes(slots[i].at, slots[i].size) for i, number in enumerate(taken)]
    )


# Writing and reading big-endian numbers.

cdef inline uint8_t* _put1(uint8_t* w, uint8_t n) noexcept:
    w[0] = n
    return w + 1


cdef inline uint8_t* _put2(uint8_t* w, uint16_t n) noexcept:
    n = swapped16(n)
    memcpy(w, &n, 2)
    return w + 2


cdef inline uint8_t* _put4(uint8_t* w, uint32_t n) noexcept:
    n = swapped32(n)
    memcpy(w, &n, 4)
    return w + 4


cdef inline uint8_t* _put8(uint8_t* w, uint64_t n) noexcept:
    n = swapped64(n)
    memcpy(w, &n, 8)
    return w + 8


cdef inline uint8_t* _put(uint8_t* w, const void* data, Py_ssize_t size) noexcept:
    memcpy(w, data, size)
    return w + size


cdef inline uint8_t* _put_long(uint8_t* w, int64_t number) noexcept:
    """Write *number* as Avro does, in at most 10 bytes."""
    cdef uint64_t n = (<uint64_t> number << 1) ^ <uint64_t> (number >> 63)
    while n > 127:
        w[0] = <uint8_t> (n & 127 | 128)
        w += 1
        n >>= 7
    w[0] = <uint8_t> n
    return w + 1


cdef inline uint16_t _get2(const uint8_t* p) noexcept:
    cdef uint16_t n
    memcpy(&n, p, 2)
    return swapped16(n)


cdef inline uint32_t _get4(const uint8_t* p) noexcept:
    cdef uint32_t n
    memcpy(&n, p, 4)
    return swapped32(n)


cdef inline uint64_t _get8(const uint8_t* p) noexcept:
    cdef uint64_t n
    memcpy(&n, p, 8)
    return swapped64(n)


cdef inline uint8_t* _put_head(
    uint8_t* w, int64_t due_ms, bint details, uint16_t bodies, uint16_t processes
) noexcept:
    w = _put8(_put1(w, VERSION), due_ms)
    return _put2(_put2(_put2(_put1(w, details), bodies), processes), 0)


cdef inline uint8_t* _put_body(uint8_t* w, uint32_t schema_id, const uint8_t* data, Py_ssize_t size) noexcept:
    return _put(_put4(_put4(w, schema_id), <uint32_t> size), data, size)


cdef inline uint8_t* _put_event(uint8_t* w, uint8_t kind, int64_t at_ms, uint8_t topic, int64_t offset) noexcept:
    return _put8(_put1(_put8(_put1(w, kind), at_ms), topic), offset)


# The parts of rows.

cdef int64_t INSTANT_MAX = <int64_t> 1 << 60


cdef struct Details:
    uint32_t schema_id
    const uint8_t* data
    Py_ssize_t size
    int64_t version
    int64_t seen_ms
    uint8_t topic
    int64_t offset


cdef struct Process:
    uint8_t step
    int64_t received_ms
    int64_t changed_ms
    int64_t due_ms
    uint32_t query
    uint32_t missing
    uint32_t missed
    uint32_t email
    uint16_t command
    uint16_t order
    uint16_t id_bytes
    uint32_t note_bytes
    int32_t trace_bytes
    uint32_t past_bytes
    const uint8_t* texts
    Py_ssize_t texts_bytes


cdef inline uint8_t* _put_details(uint8_t* w, const Details* details) noexcept:
    w = _put8(_put2(_put8(w, details.version), 1), details.seen_ms)
    return _put8(_put1(w, details.topic), details.offset)


cdef inline uint8_t* _put_process(uint8_t* w, const Process* process) noexcept:
    w = _put1(_put1(w, process.step), 0)
    w = _put8(_put8(_put8(w, process.received_ms), process.changed_ms), process.due_ms)
    w = _put4(_put4(_put4(_put4(w, process.query), process.missing), process.missed), process.email)
    w = _put2(_put2(_put2(w, process.command), process.order), process.id_bytes)
    return _put4(_put4(_put4(w, process.note_bytes), <uint32_t> process.trace_bytes), process.past_bytes)


cdef inline bint _details_at(const uint8_t* p, uint8_t topics, Details* details) noexcept:
    """Read details whose body is the first; the caller knows that there are as many bytes."""
    details.version = <int64_t> _get8(p)
    details.seen_ms = <int64_t> _get8(p + 10)
    details.topic = p[18]
    details.offset = <int64_t> _get8(p + 19)
    # Instants that can be added to and subtracted from; others are what Python makes of them.
    return _get2(p + 8) == 1 and details.topic < topics and 0 <= details.seen_ms < INSTANT_MAX


cdef bint _process_at(
    const uint8_t* p, const uint8_t* e, uint8_t step, uint16_t command, uint16_t order, Process* process
) noexcept:
    """Read the process that a row ends with, if it stands at *step* with these bodies, and its texts are plain."""
    cdef int64_t texts
    if e - p < PROCESS_BYTES or p[0] != step or p[1] != 0:
        return False
    process.step = step
    process.received_ms = <int64_t> _get8(p + 2)
    process.changed_ms = <int64_t> _get8(p + 10)
    process.due_ms = <int64_t> _get8(p + 18)
    process.query = _get4(p + 26)
    process.missing = _get4(p + 30)
    process.missed = _get4(p + 34)
    process.email = _get4(p + 38)
    process.command = _get2(p + 42)
    process.order = _get2(p + 44)
    process.id_bytes = _get2(p + 46)
    process.note_bytes = _get4(p + 48)
    process.trace_bytes = <int32_t> _get4(p + 52)
    process.past_bytes = _get4(p + 56)
    process.texts = p + PROCESS_BYTES
    process.texts_bytes = e - process.texts
    texts = <int64_t> process.id_bytes + process.note_bytes + process.past_bytes
    if process.trace_bytes > 0:
        texts += process.trace_bytes
    if process.texts_bytes != texts or process.command != command or process.order != order:
        return False
    # From here on what Python would read too, and perhaps say something about.
    if process.id_bytes != UUID_BYTES or not _ascii(process.texts, UUID_BYTES) or not 0 <= process.received_ms < INSTANT_MAX:
        return False
    if process.email == <uint32_t> 0xFFFFFFFF or process.past_bytes > <uint32_t> 0x7FFFFFFF:
        return False
    return process.trace_bytes <= 0 or (
        process.trace_bytes <= CHARS_MAX
        and _ascii(process.texts + UUID_BYTES + process.note_bytes, process.trace_bytes)
    )


# Derived ids.

cdef extern from *:
    """
    #include <stdint.h>

    #define ROTATED(n, by) ((n) << (by) | (n) >> (32 - (by)))
    /* The words that aren't needed any more make room for those to come: 16 are enough. */
    #define WORD(i) \
        ((i) < 16 ? w[(i) & 15] : (w[(i) & 15] = \
            ROTATED(w[((i) + 13) & 15] ^ w[((i) + 8) & 15] ^ w[((i) + 2) & 15] ^ w[(i) & 15], 1)))
    /* One step; which variable is which goes round instead of the values. */
    #define STEP(a, b, c, d, e, f, k, i) e += ROTATED(a, 5) + (f) + k + WORD(i); b = ROTATED(b, 30);
    #define FIVE(f, k, i) \
        STEP(a, b, c, d, e, f(b, c, d), k, i) STEP(e, a, b, c, d, f(a, b, c), k, i + 1) \
        STEP(d, e, a, b, c, f(e, a, b), k, i + 2) STEP(c, d, e, a, b, f(d, e, a), k, i + 3) \
        STEP(b, c, d, e, a, f(c, d, e), k, i + 4)
    #define TWENTY(f, k, i) FIVE(f, k, i) FIVE(f, k, i + 5) FIVE(f, k, i + 10) FIVE(f, k, i + 15)
    #define CHOICE(b, c, d) (d ^ (b & (c ^ d)))
    #define PARITY(b, c, d) (b ^ c ^ d)
    #define MAJORITY(b, c, d) ((b & c) | (d & (b | c)))

    static void sha1_block(uint32_t *h, uint32_t *w) {
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        TWENTY(CHOICE, 0x5A827999u, 0)
        TWENTY(PARITY, 0x6ED9EBA1u, 20)
        TWENTY(MAJORITY, 0x8F1BBCDCu, 40)
        TWENTY(PARITY, 0xCA62C1D6u, 60)
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    """
    # Adds a block of 16 words, which it uses up.
    void sha1_block(uint32_t* h, uint32_t* w) noexcept


cdef enum:
    NAME_MAX = KEY_MAX + 256

cdef const char* HEX = b"0123456789abcdef"


cdef void _uuid5(const uint8_t* name, Py_ssize_t size, uint8_t* text) noexcept:
    """Write the version 5 UUID's text of *name*, which begins with the namespace; *size* is NAME_MAX at most."""
    cdef uint8_t[NAME_MAX + 128] padded
    cdef uint32_t[5] h
    cdef uint32_t[16] words
    cdef uint8_t[20] digest
    cdef Py_ssize_t whole = (size + 8) // 64 * 64 + 64, at = 0
    cdef int i
    h[0], h[1], h[2], h[3], h[4] = 0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0
    memcpy(padded, name, size)
    padded[size] = 0x80
    for i in range(<int> (size + 1), <int> (whole - 8)):
        padded[i] = 0
    _put8(&padded[whole - 8], <uint64_t> size * 8)
    while at < whole:
        for i in range(16):
            words[i] = _get4(&padded[at + 4 * i])
        sha1_block(h, words)
        at += 64
    for i in range(5):
        _put4(&digest[4 * i], h[i])
    digest[6] = digest[6] & 15 | 0x50
    digest[8] = digest[8] & 63 | 0x80
    for i in range(16):
        if i == 4 or i == 6 or i == 8 or i == 10:
            text[0] = c"-"
            text += 1
        text[0] = HEX[digest[i] >> 4]
        text[1] = HEX[digest[i] & 15]
        text += 2


cdef inline uint32_t _murmur2(const uint8_t* key, Py_ssize_t size) noexcept:
    """See `streams.transport.partitioner`."""
    cdef uint32_t m = 0x5BD1E995, h = <uint32_t> 0x9747B28C ^ <uint32_t> size, k
    cdef Py_ssize_t left = size
    while left >= 4:
        memcpy(&k, key, 4)
        k *= m
        k ^= k >> 24
        h = h * m ^ k * m
        key += 4
        left -= 4
    if left:
        k = 0
        if left > 2:
            k |= <uint32_t> key[2] << 16
        if left > 1:
            k |= <uint32_t> key[1] << 8
        h = (h ^ (k | key[0])) * m
    h = (h ^ h >> 13) * m
    return h ^ h >> 15


# Objects.

cdef inline tuple _pair(object name, object value):
    pair = PyTuple_New(2)
    Py_INCREF(name)
    PyTuple_SET_ITEM(pair, 0, name)
    Py_INCREF(value)
    PyTuple_SET_ITEM(pair, 1, value)
    return pair


cdef inline bint _plain(object value, const uint8_t** at, Py_ssize_t* size) noexcept:
    """Take the text of a header's value, which may be null: then nothing. False: it is no ASCII."""
    if value is None:
        return True
    if not PyBytes_CheckExact(value) or not _ascii(_at(<bytes> value), PyBytes_GET_SIZE(value)):
        return False
    at[0], size[0] = _at(<bytes> value), PyBytes_GET_SIZE(value)
    return True


cdef inline void _lower(const uint8_t* text, uint8_t* lower) noexcept:
    """Write a UUID's text in lower case."""
    cdef int i
    for i in range(UUID_BYTES):
        lower[i] = text[i] | 0x20 if c"A" <= text[i] <= c"F" else text[i]


cdef class _Action:
    """Where one kind of output goes, and what its headers begin with."""

    cdef object topic
    cdef tuple specversion, source, type
    cdef bytes head, tail

    def __init__(self, topic, fixed, head, tail=b""):
        self.topic = topic
        self.specversion, self.source, self.type = fixed
        self.head, self.tail = head, tail


cdef enum:
    COMMAND_KIND = 0
    DETAILS_KIND = 1
    SENT_KIND = 2
    KINDS = 3

cdef struct Code:
    const int32_t* begin
    const int32_t* end


cdef struct Input:
    # The record in hand.
    int kind
    const uint8_t* key
    Py_ssize_t key_bytes
    const uint8_t* value
    Py_ssize_t value_bytes
    int64_t partition
    int64_t offset
    const uint8_t* trace
    Py_ssize_t trace_bytes  # -1: none
    const uint8_t* event_id
    Py_ssize_t event_id_bytes  # 0: none
    Found[SLOTS] slots


cdef class Kernel:
    """
    Decides what it can of a slice; see `streams.processing.kernel_facts`, which makes it.

    Raises:
        ValueError: a layout isn't what is written here.
    """

    # The index of the record in hand, for who catches an error.
    cdef readonly Py_ssize_t at

    cdef dict as_is, kinds
    # Those that came last, which is all of them while nobody writes with a newer schema.
    cdef uint8_t[KINDS][FRAME_BYTES] last_prefix
    cdef bint[KINDS] prefix_known
    cdef list programs
    cdef Code[KINDS] code
    cdef list branches
    cdef object backoff_ms, output_type
    cdef str ce_time, ce_id, ce_correlationid, ce_causationid, traceparent, original_timestamp
    cdef _Action query, email, outcome
    cdef bytes namespace, template
    cdef list topics, topic_texts
    cdef bint with_headers
    cdef int64_t details_ttl_ms, finished_ttl_ms, give_up_after_ms, ask_after_ms, details_max_age_ms, outcome_wait_ms
    cdef int64_t partitions, row_bytes_max, record_bytes_max, trace_chars_max, bucket_ms, steps
    cdef uint32_t command_schema, details_schema
    cdef uint8_t awaiting_details, awaiting_email, sent
    cdef uint8_t received_kind, queried_kind, retrieved_kind, requested_kind, sent_kind
    cdef uint8_t commands_index, details_index, events_index, topics_count
    # Of the call.
    cdef int64_t now_ms
    cdef object time
    cdef dict rows, moved
    cdef list outputs
    cdef int64_t[PENDING] buckets
    cdef int64_t[PENDING] moves
    cdef int pending

    def __init__(self, facts):
        cdef int kind
        cdef _Program program
        if (facts.version, facts.layouts) != (VERSION, LAYOUTS):
            raise ValueError(
                f"rows of version {facts.version} are laid out {facts.layouts}, and the kernel writes those of version "
                f"{VERSION}, {LAYOUTS}"
            )
        if facts.operations != OPERATIONS:
            raise ValueError(f"readers are made of {facts.operations}, and the kernel runs {OPERATIONS}")
        policy = facts.policy
        self.as_is = facts.as_is
        self.kinds = {record: kind for kind, record in enumerate(facts.records)}
        self.command_schema, self.details_schema = facts.command_schema, facts.details_schema
        self.programs = [_Program(operations) for operations in facts.programs]
        for kind in range(KINDS):
            program = <_Program> self.programs[kind]
            self.code[kind].begin, self.code[kind].end = program.code, program.code + program.size
            self.prefix_known[kind] = False
        self.topics = list(facts.topics)
        self.topic_texts = [topic.encode() for topic in facts.topics]
        self.branches = list(facts.branches)
        self.query = _Action(*facts.query)
        self.email = _Action(*facts.email)
        self.outcome = _Action(*facts.outcome)
        self.template = facts.template
        self.namespace = facts.namespace
        self.with_headers = facts.with_headers
        self.output_type = facts.output_type
        self.ce_time, self.ce_id, self.ce_correlationid = "ce_time", "ce_id", "ce_correlationid"
        self.ce_causationid, self.traceparent = "ce_causationid", "traceparent"
        self.original_timestamp = facts.original_timestamp
        self.backoff_ms = policy.backoff_ms
        self.details_ttl_ms, self.finished_ttl_ms = policy.details_ttl_ms, policy.finished_ttl_ms
        self.give_up_after_ms, self.ask_after_ms = policy.give_up_after_ms, policy.ask_after_ms
        self.details_max_age_ms, self.outcome_wait_ms = policy.details_max_age_ms, policy.email_outcome_wait_ms
        self.partitions = facts.partitions
        self.row_bytes_max, self.record_bytes_max = facts.row_bytes_max, facts.record_bytes_max
        self.trace_chars_max = facts.trace_chars_max
        self.bucket_ms, self.steps = facts.bucket_ms, facts.steps
        self.awaiting_details, self.awaiting_email, self.sent = facts.steps_of
        (
            self.received_kind, self.queried_kind, self.retrieved_kind, self.requested_kind, self.sent_kind,
        ) = facts.event_kinds
        self.commands_index, self.details_index, self.events_index, self.topics_count = facts.topic_indices
        if facts.copied_chars_max != CHARS_MAX:
            raise ValueError(f"headers of {facts.copied_chars_max} characters are copied, and by the kernel {CHARS_MAX}")

    def decide(
        self, list records, Py_ssize_t at, Py_ssize_t end, int64_t now_ms, bytes time, dict loaded, dict rows,
        dict orders, dict moved, list outputs, list taken,
    ):
        """
        Decide the records from index *at* on; return the index of the first that is left to Python, or *end*.

        Args:
            records: The batch's.
            at: Where to begin.
            end: Where to stop.
            now_ms: The batch's instant, Unix milliseconds.
            time: The same as the headers say it.
            loaded: The rows of all these records' keys.
            rows: Rows that were put since; takes in what is decided here.
            orders: By key, what Python has in hand: its row is older.
            moved: See `streams.processing.waiting`.
            outputs: Takes in what is owed.
            taken: Takes in the table's branches.
        """
        cdef int branch
        if not 0 <= now_ms < INSTANT_MAX:
            return at
        self.now_ms, self.rows, self.moved, self.outputs = now_ms, rows, moved, outputs
        self.time = _pair(self.ce_time, time)
        self.pending = 0
        self.at = at
        end = min(end, PyList_GET_SIZE(records))
        try:
            while self.at < end:
                branch = self._decide(<tuple> <object> PyList_GET_ITEM(records, self.at), loaded, orders)
                if branch < 0:
                    break
                PyList_Append(taken, self.branches[branch])
                self.at += 1
        finally:
            self._move_pending()
            self.rows = self.moved = self.outputs = self.time = None
        return self.at

    cdef int _decide(self, tuple record, dict loaded, dict orders) except -2:
        """Decide one; return which branch was taken, -1: Python's to decide."""
        cdef Input given
        cdef int kind
        cdef PyObject* found
        cdef const uint8_t* end
        cdef bytes row
        if PyTuple_GET_SIZE(record) != 7:
            return -1
        topic = <object> PyTuple_GET_ITEM(record, 0)
        key = <object> PyTuple_GET_ITEM(record, 4)
        value = <object> PyTuple_GET_ITEM(record, 5)
        headers = <object> PyTuple_GET_ITEM(record, 6)
        if not PyBytes_CheckExact(key) or not PyBytes_CheckExact(value):
            return -1
        given.key, given.key_bytes = _at(<bytes> key), PyBytes_GET_SIZE(key)
        given.value, given.value_bytes = _at(<bytes> value), PyBytes_GET_SIZE(value)
        if given.key_bytes > KEY_MAX or given.value_bytes > self.record_bytes_max:
            return -1
        if given.value_bytes < FRAME_BYTES:
            return -1
        given.partition = <object> PyTuple_GET_ITEM(record, 1)
        given.offset = <object> PyTuple_GET_ITEM(record, 2)
        if self.now_ms - <int64_t> (<object> PyTuple_GET_ITEM(record, 3)) > self.finished_ttl_ms:
            return -1
        if not self._headers(headers, &given):
            return -1
        kind = given.kind = self._kind(&given)
        if kind < 0 or not (topic is self.topics[kind] or topic == self.topics[kind]):
            return -1
        end = given.value + given.value_bytes
        if _run(self.code[kind].begin, self.code[kind].end, given.value + FRAME_BYTES, end, given.slots) != end:
            return -1
        if given.slots[0].size != given.key_bytes or memcmp(given.slots[0].at, given.key, given.key_bytes):
            return -1
        if PyDict_Contains(orders, key):
            return -1
        found = PyDict_GetItem(self.rows, key)
        if found == NULL:
            found = PyDict_GetItem(loaded, key)
            if found == NULL:
                return -1
        if <object> found is None:
            if <int64_t> (_murmur2(given.key, given.key_bytes) & 0x7FFFFFFF) % self.partitions != given.partition:
                return -1
            if kind == DETAILS_KIND:
                return self._first_details(key, &given)
            if kind == COMMAND_KIND:
                return self._first_command(key, &given)
            return -1
        if not PyBytes_CheckExact(<object> found):
            return -1
        row = <bytes> <object> found
        if kind == SENT_KIND:
            return self._email_sent(key, &given, row)
        if PyBytes_GET_SIZE(row) + given.value_bytes > self.row_bytes_max:
            return -1
        if kind == DETAILS_KIND:
            return self._awaited_details(key, &given, row)
        return self._command_with_details(key, &given, row)

    cdef int _kind(self, Input* given) except -2:
        """Return which record this is, -1: none whose values can be read here."""
        cdef int kind
        cdef PyObject* found
        for kind in range(KINDS):
            if self.prefix_known[kind] and not memcmp(self.last_prefix[kind], given.value, FRAME_BYTES):
                return kind
        prefix = _bytes(given.value, FRAME_BYTES)
        found = PyDict_GetItem(self.as_is, prefix)
        if found != NULL:
            found = PyDict_GetItem(self.kinds, <object> found)
        if found == NULL:
            return -1
        kind = <object> found
        memcpy(self.last_prefix[kind], given.value, FRAME_BYTES)
        self.prefix_known[kind] = True
        return kind

    cdef bint _headers(self, object headers, Input* given) except -1:
        """Take out what counts here; return False if one makes the record Python's."""
        cdef Py_ssize_t i
        cdef bint traced = False, identified = False
        given.trace_bytes, given.event_id_bytes = -1, 0
        if headers is None:
            return True
        if not PyList_CheckExact(headers):
            return False
        for i in range(PyList_GET_SIZE(headers)):
            pair = <object> PyList_GET_ITEM(headers, i)
            if type(pair) is not tuple or PyTuple_GET_SIZE(pair) != 2:
                return False
            name = <object> PyTuple_GET_ITEM(pair, 0)
            value = <object> PyTuple_GET_ITEM(pair, 1)
            if type(name) is not str:
                return False
            # Of several with one name the first counts.
            if <str> name == self.ce_id:
                if not identified and not _plain(value, &given.event_id, &given.event_id_bytes):
                    return False
                identified = True
            elif <str> name == self.traceparent:
                if not traced and not _plain(value, &given.trace, &given.trace_bytes):
                    return False
                traced = True
            elif <str> name == self.original_timestamp:
                return False
        if given.trace_bytes > self.trace_chars_max:
            given.trace_bytes = -1
        return True

    # The five ways of `straight`, which says what each is.

    cdef int _first_details(self, object key, Input* given) except -2:
        cdef Details details
        self._details_of(given, &details)
        row = PyBytes_FromStringAndSize(NULL, HEAD_BYTES + BODY_BYTES + details.size + DETAILS_BYTES)
        w = <uint8_t*> PyBytes_AS_STRING(row)
        w = _put_head(w, self.now_ms + self.details_ttl_ms, True, 1, 0)
        w = _put_body(w, details.schema_id, details.data, details.size)
        _put_details(w, &details)
        PyDict_SetItem(self.rows, key, row)
        return 0

    cdef int _first_command(self, object key, Input* given) except -2:
        cdef Process process
        cdef uint8_t[UUID_BYTES] command_id
        cdef uint8_t[UUID_BYTES] query_id
        cdef bint asked = self.ask_after_ms == 0
        cdef int64_t due_ms = self.now_ms + self.give_up_after_ms, backoff_ms
        cdef Py_ssize_t data_bytes = given.value_bytes - FRAME_BYTES
        cdef uint8_t* w
        cdef bytes value
        _lower(given.slots[1].at, command_id)
        if asked:
            backoff_ms = self.backoff_ms(_bytes(command_id, UUID_BYTES).decode(), 1)
            due_ms = max(min(self.now_ms + backoff_ms, due_ms), self.now_ms)
        elif self.ask_after_ms != NEVER_ASK:
            due_ms = min(due_ms, self.now_ms + self.ask_after_ms)
        self._new_process(&process, given, self.awaiting_details, due_ms)
        process.query, process.email, process.command, process.order = asked, 0, 1, 0
        process.past_bytes = RECEIVED_BYTES + (QUERIED_BYTES if asked else 0)
        row = PyBytes_FromStringAndSize(
            NULL,
            HEAD_BYTES + BODY_BYTES + data_bytes + PROCESS_BYTES + UUID_BYTES + max(given.trace_bytes, 0)
            + process.past_bytes,
        )
        w = <uint8_t*> PyBytes_AS_STRING(row)
        w = _put_head(w, due_ms, False, 1, 1)
        w = _put_body(w, self.command_schema, given.value + FRAME_BYTES, data_bytes)
        w = self._put_new(w, &process, command_id, given)
        if asked:
            w = _put_event(w, self.queried_kind, self.now_ms, self.commands_index, given.offset)
            _put4(w, 1)
        PyDict_SetItem(self.rows, key, row)
        self._move(self.awaiting_details, self.now_ms, 1)
        if not asked:
            return 3
        self._id(command_id, b"/query/1/", 9, given, query_id)
        value = PyBytes_FromStringAndSize(
            NULL, PyBytes_GET_SIZE(self.query.head) + 1 + UUID_BYTES + 10 + given.key_bytes + 1 + 10
        )
        w = <uint8_t*> PyBytes_AS_STRING(value)
        w = _put(w, _at(self.query.head), PyBytes_GET_SIZE(self.query.head))
        w = _put(_put1(w, UUID_LENGTH), query_id, UUID_BYTES)
        w = _put(_put_long(w, given.key_bytes), given.key, given.key_bytes)
        w = _put_long(_put_long(w, 1), self.now_ms)
        value = value[: w - _at(value)]
        self._send(self.query, key, value, query_id, command_id, given, given.trace, given.trace_bytes)
        return 2

    cdef int _command_with_details(self, object key, Input* given, bytes row) except -2:
        cdef Details details
        cdef Process process
        cdef uint8_t[UUID_BYTES] command_id
        cdef int64_t email_due_ms = self.now_ms + self.outcome_wait_ms
        cdef Py_ssize_t data_bytes = given.value_bytes - FRAME_BYTES
        cdef uint8_t* w
        if not self._details_row(row, &details):
            return -1
        if self.ask_after_ms != NEVER_ASK and self.now_ms - details.seen_ms >= self.details_max_age_ms:
            return -1
        _lower(given.slots[1].at, command_id)
        self._new_process(&process, given, self.awaiting_email, email_due_ms)
        process.query, process.email, process.command, process.order = 0, 1, 2, 1
        process.past_bytes = WHOLE_BYTES
        requested = PyBytes_FromStringAndSize(
            NULL,
            HEAD_BYTES + 2 * BODY_BYTES + details.size + data_bytes + DETAILS_BYTES + PROCESS_BYTES + UUID_BYTES
            + max(given.trace_bytes, 0) + WHOLE_BYTES,
        )
        w = <uint8_t*> PyBytes_AS_STRING(requested)
        w = self._put_both(w, email_due_ms, &details, given.value + FRAME_BYTES, data_bytes)
        w = self._put_new(w, &process, command_id, given)
        self._put_requested(w, &details, self.commands_index, given.offset, 1)
        PyDict_SetItem(self.rows, key, requested)
        self._move(self.awaiting_email, self.now_ms, 1)
        self._send_email(
            key, given, command_id, given.value + FRAME_BYTES, data_bytes, &details, given.trace, given.trace_bytes
        )
        return 1

    cdef int _awaited_details(self, object key, Input* given, bytes row) except -2:
        cdef const uint8_t* p = _at(row)
        cdef const uint8_t* e = p + PyBytes_GET_SIZE(row)
        cdef const uint8_t* command
        cdef const uint8_t* trace
        cdef Details details
        cdef Process process
        cdef int64_t email_due_ms = self.now_ms + self.outcome_wait_ms, size
        cdef uint8_t* w
        if e - p < HEAD_BYTES + BODY_BYTES + PROCESS_BYTES or p[0] != VERSION:
            return -1
        if memcmp(p + COUNTS_AT, <const char*> b"\0\0\1\0\1\0\0", COUNTS_BYTES) or _get4(p + HEAD_BYTES) != self.command_schema:
            return -1
        size = _get4(p + HEAD_BYTES + 4)
        command = p + HEAD_BYTES + BODY_BYTES
        if size > e - command or not _process_at(command + size, e, self.awaiting_details, 1, 0, &process):
            return -1
        self._details_of(given, &details)
        process.step, process.changed_ms, process.due_ms = self.awaiting_email, self.now_ms, email_due_ms
        process.command, process.order, process.email = 2, 1, process.email + 1
        process.past_bytes += MET_BYTES
        met = PyBytes_FromStringAndSize(
            NULL,
            HEAD_BYTES + 2 * BODY_BYTES + details.size + size + DETAILS_BYTES + PROCESS_BYTES + process.texts_bytes
            + MET_BYTES,
        )
        w = <uint8_t*> PyBytes_AS_STRING(met)
        w = self._put_both(w, email_due_ms, &details, command, size)
        w = _put(_put_process(w, &process), process.texts, process.texts_bytes)
        self._put_requested(w, &details, self.details_index, given.offset, process.email)
        PyDict_SetItem(self.rows, key, met)
        self._move(self.awaiting_details, process.received_ms, -1)
        self._move(self.awaiting_email, process.received_ms, 1)
        trace = process.texts + UUID_BYTES + process.note_bytes
        self._send_email(key, given, process.texts, command, size, &details, trace, process.trace_bytes)
        return 4

    cdef int _email_sent(self, object key, Input* given, bytes row) except -2:
        cdef const uint8_t* p = _at(row)
        cdef const uint8_t* e = p + PyBytes_GET_SIZE(row)
        cdef const uint8_t* bodies = p + HEAD_BYTES
        cdef Details details
        cdef Process process
        cdef uint8_t[UUID_BYTES] email_id
        cdef uint8_t[UUID_BYTES] reported
        cdef uint8_t[UUID_BYTES] outcome_id
        cdef int64_t process_due_ms = self.now_ms + self.finished_ttl_ms, at, end
        cdef uint8_t* w
        cdef bytes value
        if e - p < HEAD_BYTES + 2 * BODY_BYTES + DETAILS_BYTES + PROCESS_BYTES or p[0] != VERSION:
            return -1
        if memcmp(p + COUNTS_AT, <const char*> b"\1\0\2\0\1\0\0", COUNTS_BYTES):
            return -1
        at = HEAD_BYTES + BODY_BYTES + <int64_t> _get4(bodies + 4)
        if e - p < at + BODY_BYTES:
            return -1
        end = at + BODY_BYTES + <int64_t> _get4(p + at + 4)
        if e - p < end + DETAILS_BYTES or not _details_at(p + end, self.topics_count, &details):
            return -1
        if not _process_at(p + end + DETAILS_BYTES, e, self.awaiting_email, 2, 1, &process):
            return -1
        self._id(process.texts, b"/email/", 7, given, email_id)
        _lower(given.slots[1].at, reported)
        if memcmp(email_id, reported, UUID_BYTES):
            return -1
        process.step, process.changed_ms, process.due_ms = self.sent, self.now_ms, process_due_ms
        process.command, process.order = 0, 0
        process.past_bytes += SENT_BYTES
        sent = PyBytes_FromStringAndSize(
            NULL, at + DETAILS_BYTES + PROCESS_BYTES + process.texts_bytes + SENT_BYTES
        )
        w = <uint8_t*> PyBytes_AS_STRING(sent)
        w = _put_head(w, min(process_due_ms, details.seen_ms + self.details_ttl_ms), True, 1, 1)
        w = _put(w, bodies, at - HEAD_BYTES)
        w = _put(w, p + end, DETAILS_BYTES)
        w = _put(_put_process(w, &process), process.texts, process.texts_bytes)
        _put_event(w, self.sent_kind, self.now_ms, self.events_index, given.offset)
        PyDict_SetItem(self.rows, key, sent)
        self._move(self.awaiting_email, process.received_ms, -1)
        self._id(process.texts, b"/OrderConfirmationSent/", 23, given, outcome_id)
        value = PyBytes_FromStringAndSize(
            NULL, PyBytes_GET_SIZE(self.outcome.head) + 2 * (1 + UUID_BYTES) + 10 + given.key_bytes + 10
        )
        w = <uint8_t*> PyBytes_AS_STRING(value)
        w = _put(w, _at(self.outcome.head), PyBytes_GET_SIZE(self.outcome.head))
        w = _put(_put1(w, UUID_LENGTH), process.texts, UUID_BYTES)
        w = _put(_put_long(w, given.key_bytes), given.key, given.key_bytes)
        w = _put(_put1(w, UUID_LENGTH), email_id, UUID_BYTES)
        w = _put_long(w, self.now_ms)
        value = value[: w - _at(value)]
        self._send(
            self.outcome, key, value, outcome_id, process.texts, given,
            process.texts + UUID_BYTES + process.note_bytes, process.trace_bytes,
        )
        return 5

    # Their parts.

    cdef inline void _details_of(self, Input* given, Details* details) noexcept:
        """Take *given*'s details as they come now."""
        details.schema_id = self.details_schema
        details.data, details.size = given.slots[2].at, given.slots[2].size
        details.version, details.seen_ms = given.slots[1].number, self.now_ms
        details.topic, details.offset = self.details_index, given.offset

    cdef inline void _new_process(self, Process* process, Input* given, uint8_t step, int64_t due_ms) noexcept:
        process.step = step
        process.received_ms = process.changed_ms = self.now_ms
        process.due_ms = due_ms
        process.missing = process.missed = process.note_bytes = 0
        process.id_bytes = UUID_BYTES
        process.trace_bytes = <int32_t> given.trace_bytes

    cdef inline uint8_t* _put_new(
        self, uint8_t* w, const Process* process, const uint8_t* command_id, Input* given
    ) noexcept:
        """Write a process that begins with *given*: its numbers, its texts, and that its command was received."""
        w = _put(_put_process(w, process), command_id, UUID_BYTES)
        if given.trace_bytes > 0:
            w = _put(w, given.trace, given.trace_bytes)
        return _put_event(w, self.received_kind, self.now_ms, self.commands_index, given.offset)

    cdef inline uint8_t* _put_both(
        self, uint8_t* w, int64_t email_due_ms, const Details* details, const uint8_t* command, Py_ssize_t command_bytes
    ) noexcept:
        """Write what a row begins with that has details, and a process whose e-mail is requested."""
        w = _put_head(w, min(email_due_ms, details.seen_ms + self.details_ttl_ms), True, 2, 1)
        w = _put_body(w, details.schema_id, details.data, details.size)
        return _put_details(_put_body(w, self.command_schema, command, command_bytes), details)

    cdef inline void _put_requested(
        self, uint8_t* w, const Details* details, uint8_t topic, int64_t offset, uint32_t attempt
    ) noexcept:
        """Write that *details* were retrieved, and the e-mail requested because of the record at *offset*."""
        w = _put_event(w, self.retrieved_kind, details.seen_ms, details.topic, details.offset)
        w = _put_event(_put8(w, details.version), self.requested_kind, self.now_ms, topic, offset)
        _put4(w, attempt)

    cdef bint _details_row(self, bytes row, Details* details) noexcept:
        """Read a row of details alone."""
        cdef const uint8_t* p = _at(row)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(row)
        if size < HEAD_BYTES + BODY_BYTES + DETAILS_BYTES or p[0] != VERSION:
            return False
        if memcmp(p + COUNTS_AT, <const char*> b"\1\0\1\0\0\0\0", COUNTS_BYTES):
            return False
        details.schema_id = _get4(p + HEAD_BYTES)
        details.size = _get4(p + HEAD_BYTES + 4)
        details.data = p + HEAD_BYTES + BODY_BYTES
        if size != HEAD_BYTES + BODY_BYTES + details.size + DETAILS_BYTES or details.schema_id != self.details_schema:
            return False
        return _details_at(details.data + details.size, self.topics_count, details)

    cdef void _id(self, const uint8_t* command_id, const char* infix, Py_ssize_t size, Input* given, uint8_t* text) noexcept:
        """Write the id that `topology.ids` derives."""
        cdef uint8_t[NAME_MAX] name
        w = _put(_put(name, _at(self.namespace), 16), command_id, UUID_BYTES)
        w = _put(_put(w, infix, size), given.key, given.key_bytes)
        _uuid5(name, w - name, text)

    cdef int _send_email(
        self, object key, Input* given, const uint8_t* command_id, const uint8_t* command, Py_ssize_t command_bytes,
        const Details* details, const uint8_t* trace, Py_ssize_t trace_bytes,
    ) except -1:
        cdef uint8_t[UUID_BYTES] email_id
        cdef bytes head = self.email.head, tail = self.email.tail, template = self.template
        cdef bytes value
        self._id(command_id, b"/email/", 7, given, email_id)
        value = PyBytes_FromStringAndSize(
            NULL,
            PyBytes_GET_SIZE(head) + UUID_BYTES + PyBytes_GET_SIZE(template) + command_bytes + details.size
            + PyBytes_GET_SIZE(tail),
        )
        w = <uint8_t*> PyBytes_AS_STRING(value)
        w = _put(_put(w, _at(head), PyBytes_GET_SIZE(head)), email_id, UUID_BYTES)
        w = _put(_put(w, _at(template), PyBytes_GET_SIZE(template)), command, command_bytes)
        _put(_put(w, details.data, details.size), _at(tail), PyBytes_GET_SIZE(tail))
        self._send(self.email, key, value, email_id, command_id, given, trace, trace_bytes)
        return 0

    cdef int _send(
        self, _Action action, object key, bytes value, const uint8_t* event_id, const uint8_t* command_id, Input* given,
        const uint8_t* trace, Py_ssize_t trace_bytes,
    ) except -1:
        """Add an output, with the headers of `streams.headers.cloud_event_headers`."""
        cdef list headers = []
        cdef char[512] place
        cdef const char* topic
        cdef Py_ssize_t size
        if self.with_headers:
            headers.append(action.specversion)
            headers.append(action.source)
            headers.append(action.type)
            headers.append(self.time)
            headers.append(_pair(self.ce_id, _bytes(event_id, UUID_BYTES)))
            headers.append(_pair(self.ce_correlationid, _bytes(command_id, UUID_BYTES)))
            if given.event_id_bytes:
                if given.event_id_bytes <= CHARS_MAX:
                    headers.append(_pair(self.ce_causationid, _bytes(given.event_id, given.event_id_bytes)))
            else:
                topic = PyBytes_AS_STRING(<bytes> self.topic_texts[given.kind])
                size = snprintf(
                    place, sizeof(place), b"%s/%lld/%lld", topic, <long long> given.partition, <long long> given.offset
                )
                headers.append(_pair(self.ce_causationid, _bytes(place, size)))
            if trace_bytes >= 0:
                headers.append(_pair(self.traceparent, _bytes(trace, trace_bytes)))
        # As `tuple.__new__` does it, without a tuple to copy from.
        output = PyType_GenericAlloc(<PyTypeObject*> self.output_type, 4)
        Py_INCREF(action.topic)
        PyTuple_SET_ITEM(output, 0, action.topic)
        Py_INCREF(key)
        PyTuple_SET_ITEM(output, 1, key)
        Py_INCREF(value)
        PyTuple_SET_ITEM(output, 2, value)
        Py_INCREF(headers)
        PyTuple_SET_ITEM(output, 3, headers)
        PyList_Append(self.outputs, output)
        return 0

    cdef int _move(self, uint8_t step, int64_t received_ms, int64_t by) except -1:
        """Add to `streams.processing.waiting`'s counts; few buckets are moved in turns, so they are summed up first."""
        cdef int64_t bucket = received_ms // self.bucket_ms * self.steps + step
        cdef int i
        for i in range(self.pending):
            if self.buckets[i] == bucket:
                self.moves[i] += by
                return 0
        if self.pending == PENDING:
            self._move_pending()
        self.buckets[self.pending], self.moves[self.pending] = bucket, by
        self.pending += 1
        return 0

    cdef int _move_pending(self) except -1:
        cdef int i
        for i in range(self.pending):
            bucket = self.buckets[i]
            self.moved[bucket] = self.moved.get(bucket, 0) + self.moves[i]
        self.pending = 0
        return 0
