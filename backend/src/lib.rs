//! backend
#![no_std]
