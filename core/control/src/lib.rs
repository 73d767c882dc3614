//! The local control API between mastd and its user interfaces
