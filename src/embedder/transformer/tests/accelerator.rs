//! The steps of an accelerator, by candle's operations on the CPU, compared with the kernels.

use super::*;

#[test]
fn candles_operations_pool_as_the_kernels_do() {
    // With shorter sequences beside the longest, and with none.
    for (lengths, pooling) in [[1, 40, 7, 64], [9; 4]].into_iter().flat_map(|n| POOLINGS.map(|pooling| (n, pooling))) {
        let (kernels, candles) =
            (pooled(at(cpu::level()), lengths, pooling), pooled(by_candle(DType::F32), lengths, pooling));
        assert_eq!((kernels.len(), candles.len()), (4, 4), "{pooling:?}");
        let (kernels, candles) = (kernels.concat(), candles.concat());
        assert_eq!((kernels.len(), candles.len()), (4 * 96 * pooling.len(), 4 * 96 * pooling.len()), "{pooling:?}");
        let worst = kernels.iter().zip(&candles).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let most = tolerance(cpu::level()).max(1e-5);
        assert!(worst <= most, "{pooling:?}: off by {worst:e}");
    }
}

#[test]
fn f16_says_nearly_what_f32_says_by_candles_operations() {
    let lengths = [1, 40, 7, 64];
    for pooling in POOLINGS {
        let [exact, near] = [DType::F32, DType::F16].map(|float| pooled(by_candle(float), lengths, pooling));
        assert_ne!(exact, near, "this is f32");
        for (exact, near) in exact.into_iter().zip(near) {
            let unit = |v: Vec<f32>| Embedding::normalized(v).expect("a direction");
            let cosine = unit(exact).cosine(&unit(near));
            assert!(cosine > 0.9999, "{pooling:?}: cosine {cosine}");
        }
    }
}

const POOLINGS: [&[Mode]; 4] =
    [&[Mode::Mean], &[Mode::Cls], &[Mode::Max, Mode::LastToken], &[Mode::Cls, Mode::WeightedMean, Mode::MeanSqrtLen]];

/// Candle's operations on the CPU, with numbers of this type.
fn by_candle(float: DType) -> Accelerator {
    Accelerator::new(Device::Cpu, float)
}

/// Computes the vectors of four sequences.
fn pooled<B: Backend>(backend: B, lengths: [usize; 4], modes: &[Mode]) -> Vec<Vec<f32>> {
    let config = config(96, 3, 384, 2, Gelu);
    let bert = load(weights(&config, 5), &config, &backend);
    let sequences = lengths.map(|n| sequence(n, n as u32));
    bert.pooled(&of_prompts(&sequences), modes, &mut bert.scratch(backend)).expect("ids are valid")
}

/// Sequences with a prompt that pooling leaves out, if they are longer than it.
fn of_prompts(sequences: &[Vec<u32>]) -> Vec<Sequence<'_>> {
    let left_out = |ids: &Vec<u32>| if ids.len() > 8 { 2 } else { 0 };
    sequences.iter().map(|ids| Sequence { left_out: left_out(ids), ..ids.as_slice().into() }).collect()
}
