//! What differs per operating system: virtual interface, interface monitor, bound sockets, routes, key store
