//! The MAST service
