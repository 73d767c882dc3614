//! The MAST protocol as a sans-IO state machine
