//! Times of the protocol's work for each datagram: sealing and opening, in long runs and one by one.
//!
//! `cargo bench -p mast-bench --bench seal`. On a noisy machine, the bin `instructions` says more.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use mast_bench::sealing::{CIPHERS, Operation, pair};
use mast_bench::{BenchError, Result};

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let mut good = true;
    for operation in Operation::ALL {
        let stride = operation.frame();
        let mut group = criterion.benchmark_group(operation.name());
        group.throughput(Throughput::Bytes((stride * operation.datagrams()) as u64));
        for (name, aead) in CIPHERS {
            let (mut sealer, mut opener) = pair(aead)?;
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                let mut frames = operation.frames();
                if operation.opens() {
                    // A datagram can be opened once: each turn has one of its own, of the same keys.
                    let fresh = || {
                        good &= sealer.seal(&mut frames, stride);
                        (frames.clone(), true)
                    };
                    let open = |(frames, opened): &mut (Vec<u8>, bool)| *opened = opener.open(frames, stride);
                    bencher.iter_batched_ref(fresh, open, BatchSize::LargeInput);
                } else {
                    bencher.iter(|| good &= sealer.seal(&mut frames, stride));
                }
            });
        }
        group.finish();
    }
    criterion.final_summary();
    // What is dropped early costs less: then the times would say nothing.
    good.then_some(()).ok_or_else(|| BenchError::Program("a datagram could not be sealed".into()))
}
