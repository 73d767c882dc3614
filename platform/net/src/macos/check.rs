//! Layouts and values that are written out in this folder, compared by the compiler with those of the crate libc, which has
//! them of Apple's headers. What libc has not is compared with the number that the headers make of it.

use std::mem::{offset_of, size_of};

use super::native;
use super::routing as r;

const fn same(a: u64, b: u64) {
    assert!(a == b, "not as in Apple's headers");
}

const _: () = {
    same(r::ROUTE_HEADER as u64, size_of::<libc::rt_msghdr>() as u64);
    same(r::INTERFACE_HEADER as u64, size_of::<libc::if_msghdr>() as u64);
    same(r::ADDRESS_HEADER as u64, size_of::<libc::ifa_msghdr>() as u64);
    // Where routing.rs reads and writes.
    same(4, offset_of!(libc::rt_msghdr, rtm_index) as u64);
    same(8, offset_of!(libc::rt_msghdr, rtm_flags) as u64);
    same(12, offset_of!(libc::rt_msghdr, rtm_addrs) as u64);
    same(20, offset_of!(libc::rt_msghdr, rtm_seq) as u64);
    same(4, offset_of!(libc::if_msghdr, ifm_addrs) as u64);
    same(8, offset_of!(libc::if_msghdr, ifm_flags) as u64);
    same(12, offset_of!(libc::if_msghdr, ifm_index) as u64);
    same(16, (offset_of!(libc::if_msghdr, ifm_data) + offset_of!(libc::if_data, ifi_type)) as u64);
    same(24, (offset_of!(libc::if_msghdr, ifm_data) + offset_of!(libc::if_data, ifi_mtu)) as u64);
    same(4, offset_of!(libc::ifa_msghdr, ifam_addrs) as u64);
    same(12, offset_of!(libc::ifa_msghdr, ifam_index) as u64);
    same(2, offset_of!(libc::sockaddr_dl, sdl_index) as u64);
    same(5, offset_of!(libc::sockaddr_dl, sdl_nlen) as u64);
    same(8, offset_of!(libc::sockaddr_dl, sdl_data) as u64);
    same(20, size_of::<libc::sockaddr_dl>() as u64);
    same(16, size_of::<libc::sockaddr_in>() as u64);
    same(4, offset_of!(libc::sockaddr_in, sin_addr) as u64);
    same(28, size_of::<libc::sockaddr_in6>() as u64);
    same(8, offset_of!(libc::sockaddr_in6, sin6_addr) as u64);
};

const _: () = {
    same(r::VERSION as u64, libc::RTM_VERSION as u64);
    same(r::ADD as u64, libc::RTM_ADD as u64);
    same(r::DELETE as u64, libc::RTM_DELETE as u64);
    same(r::CHANGE as u64, libc::RTM_CHANGE as u64);
    same(r::GET as u64, libc::RTM_GET as u64);
    same(r::REDIRECT as u64, libc::RTM_REDIRECT as u64);
    same(r::MISS as u64, libc::RTM_MISS as u64);
    same(r::NEW_ADDRESS as u64, libc::RTM_NEWADDR as u64);
    same(r::DELETE_ADDRESS as u64, libc::RTM_DELADDR as u64);
    same(r::INTERFACE as u64, libc::RTM_IFINFO as u64);
    same(r::UP as u64, libc::RTF_UP as u64);
    same(r::GATEWAY as u64, libc::RTF_GATEWAY as u64);
    same(r::HOST as u64, libc::RTF_HOST as u64);
    same(r::NEIGHBOUR as u64, libc::RTF_LLINFO as u64);
    same(r::STATIC as u64, libc::RTF_STATIC as u64);
    same(r::CLONED as u64, libc::RTF_WASCLONED as u64);
    same(r::BROADCAST as u64, libc::RTF_BROADCAST as u64);
    same(r::MULTICAST as u64, libc::RTF_MULTICAST as u64);
    same(r::SCOPED as u64, libc::RTF_IFSCOPE as u64);
    same(r::CONDEMNED as u64, libc::RTF_CONDEMNED as u64);
    same(r::DEAD as u64, libc::RTF_DEAD as u64);
    same(r::INTERFACE_UP as u64, libc::IFF_UP as u64);
    same(r::LOOPBACK as u64, libc::IFF_LOOPBACK as u64);
    same(r::POINT_TO_POINT as u64, libc::IFF_POINTOPOINT as u64);
    same(r::RUNNING as u64, libc::IFF_RUNNING as u64);
    same(r::INET as u64, libc::AF_INET as u64);
    same(r::INET6 as u64, libc::AF_INET6 as u64);
    same(r::LINK as u64, libc::AF_LINK as u64);
};

// Requests hold the length of their argument, so that a wrong layout makes a wrong number. Those on the right are what
// the headers make (`_IOW('i', 26, struct in6_aliasreq)` and so on, of xnu's `bsd/sys/sockio.h` and
// `bsd/netinet6/in6_var.h`).
const _: () = {
    same(native::SET_FLAGS, 0x8020_6910);
    same(native::GET_FLAGS, 0xc020_6911);
    same(native::SET_MTU, 0x8020_6934);
    same(native::ADD_ADDRESS, 0x8040_691a);
    same(native::REMOVE_ADDRESS, 0x8020_6919);
    same(native::ADD_ADDRESS_V6, 0x8080_691a);
    same(native::REMOVE_ADDRESS_V6, 0x8120_6919);
    same(native::ADDRESS_FLAGS_V6, 0xc120_6949);
    same(native::FUNCTIONAL_TYPE, 0xc020_69ad);
    same(native::EXPENSIVE, 0xc020_69a0);
    same(native::CONSTRAINED, 0xc020_69cc);
    same(48, size_of::<native::Batched>() as u64 - 8);
};
