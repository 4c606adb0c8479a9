// SPDX-License-Identifier: MIT OR Apache-2.0
//! A stated model of a processor, fed with the instructions and accesses of a virtual machine.
//!
//! The emulator counts instructions exactly, but an emulated processor has no caches, no TLB, no
//! branch predictor, and no cost of a trap. This crate models them. Its figures are modelled, never
//! measured: `docs/model.md` says what they are worth.
//!
//! | module | what |
//! |---|---|
//! | [`decode`] | the few properties of an instruction that the model needs |
//! | [`marker`] | how a program in the machine marks a region of interest |
//! | [`block`] | a straight run of instructions |
//! | [`cache`], [`tlb`], [`branch`] | the structures of a processor |
//! | [`processor`] | one processor made of them |
//! | [`tracer`] | feeds one trace to several processors, and keeps counts by region |
//! | [`counts`] | what is counted, and its CSV |
//! | [`params`] | the file with the parameters and their sources |
//! | [`variants`] | the parameters halved and doubled |
//! | [`cost`] | cycles from counts |
//! | [`report`] | tables |
//!
//! A plugin for QEMU (`flexsc-model-plugin`) makes the trace. The structures' sizes decide the counts;
//! latencies and other costs are only applied to the counts afterwards, so a trace need not be
//! repeated to change them.

pub mod block;
pub mod branch;
pub mod cache;
pub mod cost;
pub mod counts;
pub mod decode;
pub mod marker;
pub mod params;
pub mod processor;
pub mod report;
pub mod tlb;
pub mod tracer;
pub mod variants;
