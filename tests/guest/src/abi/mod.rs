// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device's calls: structures, numbers, errors.

pub mod ioctls;
pub mod mapping;
pub mod params;
pub mod register;
