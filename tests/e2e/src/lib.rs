//! End-to-end tests of real daemons in network namespaces
