//! A simulated network of MAST endpoints in virtual time
