//! Benchmarks of real daemons in network namespaces
