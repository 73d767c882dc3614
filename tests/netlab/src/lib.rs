//! Hosts, routers, links and NATs in network namespaces
