//! The option `--device`: the device of candle that runs the model.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

/// A device in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The best device of this build and this machine.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA card by its number.
    Cuda(usize),
    /// Apple's GPU.
    Metal,
}

/// The reason why a device is not available.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The binary was built without it.
    #[error("this build has no {device} support; build with `--features {feature}`, or use `--device cpu`")]
    NotBuilt {
        /// The device.
        device: &'static str,
        /// The cargo feature that adds it.
        feature: &'static str,
    },
    /// The backend runs on the CPU only.
    #[error("ONNX graphs run on the CPU only; use `--backend candle` for {device}, or `--device cpu`")]
    NotOnnx {
        /// The device.
        device: DeviceChoice,
    },
    /// A table of static vectors is read by the CPU only.
    #[error("a model of static vectors runs on the CPU only, and the device is {device}; use `--device cpu` or `auto`")]
    NotStatic {
        /// The device.
        device: DeviceChoice,
    },
    /// The machine or its driver refuses.
    #[error("{device} cannot be opened: {reason}; use `--device cpu` or `--device auto`")]
    NotThere {
        /// The device.
        device: DeviceChoice,
        /// The driver's error.
        reason: String,
    },
    /// The machine has no card of this number.
    #[error("this machine has no {device}; its CUDA cards are {}; use one of them, or `--device cpu`", numbers(*cards))]
    NoSuchCard {
        /// The device.
        device: DeviceChoice,
        /// The cards of the machine, at least one.
        cards: usize,
    },
    /// The machine has no card, no driver for it, or none of CUDA's libraries.
    #[error(
        "{device} cannot be opened: CUDA finds no card ({reason}); `nvidia-smi` shows whether the driver does; \
         use `--device cpu` or `--device auto`"
    )]
    NoCard {
        /// The device.
        device: DeviceChoice,
        /// The driver's error.
        reason: String,
    },
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.split_once(':') {
            None if s == "auto" => Ok(Self::Auto),
            None if s == "cpu" => Ok(Self::Cpu),
            None if s == "cuda" => Ok(Self::Cuda(0)),
            None if s == "metal" => Ok(Self::Metal),
            Some(("cuda", n)) => n
                .parse()
                .map(Self::Cuda)
                .map_err(|_| format!("expected the number of a card after `cuda:`, found `{n}`")),
            _ => Err("expected auto, cpu, cuda, cuda:N or metal".to_owned()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device. `Auto` never fails: without an accelerator it opens the CPU. Returns the device and its
    /// choice, never `Auto`.
    pub fn open(self) -> Result<(Device, Self), DeviceError> {
        match self {
            Self::Auto => [Self::Cuda(0), Self::Metal]
                .into_iter()
                .find_map(|c| c.open().ok())
                .map_or_else(|| Self::Cpu.open(), Ok),
            Self::Cpu => Ok((Device::Cpu, self)),
            Self::Cuda(_) if !candle_core::utils::cuda_is_available() => {
                Err(DeviceError::NotBuilt { device: "CUDA", feature: "cuda" })
            }
            Self::Cuda(n) => Device::new_cuda(n).map(|d| (d, self)).map_err(|e| self.not_there(&e)),
            Self::Metal if !candle_core::utils::metal_is_available() => {
                Err(DeviceError::NotBuilt { device: "Metal", feature: "metal" })
            }
            Self::Metal => Device::new_metal(0).map(|d| (d, self)).map_err(|e| self.not_there(&e)),
        }
    }

    /// Makes the error of a driver.
    fn not_there(self, error: &candle_core::Error) -> DeviceError {
        // Only the first line, because candle appends its backtrace.
        let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
        match (self, cards()) {
            (Self::Cuda(_), 0) => DeviceError::NoCard { device: self, reason },
            (Self::Cuda(n), cards) if n >= cards => DeviceError::NoSuchCard { device: self, cards },
            _ => DeviceError::NotThere { device: self, reason },
        }
    }
}

/// Returns the number of CUDA cards.
#[cfg(feature = "cuda")]
fn cards() -> usize {
    let count = candle_core::cuda_backend::cudarc::driver::CudaContext::device_count();
    count.map_or(0, |count| usize::try_from(count).unwrap_or(0))
}

/// Returns the number of CUDA cards: none, because this build does not ask for them.
#[cfg(not(feature = "cuda"))]
fn cards() -> usize {
    0
}

/// Writes the names of this many cards.
fn numbers(cards: usize) -> String {
    let name = |n| DeviceChoice::Cuda(n).to_string();
    if cards == 1 { name(0) } else { format!("{} to {}", name(0), name(cards.saturating_sub(1))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_written_as_they_are_read() {
        for name in ["auto", "cpu", "cuda:0", "cuda:7", "metal"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cpu:1"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn auto_opens_something() {
        assert_ne!(DeviceChoice::Auto.open().unwrap().1, DeviceChoice::Auto);
    }

    #[test]
    fn a_card_that_is_not_there_is_refused_with_those_that_are() {
        let error = |cards| DeviceError::NoSuchCard { device: DeviceChoice::Cuda(7), cards }.to_string();
        let expected =
            "this machine has no cuda:7; its CUDA cards are cuda:0 to cuda:3; use one of them, or `--device cpu`";
        assert_eq!(error(4), expected);
        assert!(error(1).contains("its CUDA cards are cuda:0;"), "{}", error(1));
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn a_card_of_another_machine_is_refused_with_the_way_out() {
        let error = DeviceChoice::Cuda(93).open().unwrap_err().to_string();
        assert!(error.contains("cuda:93") && error.contains("--device cpu"), "{error}");
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_the_build_lacks_is_refused_with_the_way_to_get_it() {
        let error = DeviceChoice::Cuda(0).open().unwrap_err().to_string();
        assert!(error.contains("--features cuda") && error.contains("--device cpu"), "{error}");
    }
}
