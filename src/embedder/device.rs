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
    /// The machine or its driver refuses.
    #[error("{device} cannot be opened: {reason}; use `--device cpu` or `--device auto`")]
    NotThere {
        /// The device.
        device: String,
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
        DeviceError::NotThere { device: self.to_string(), reason }
    }
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

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_the_build_lacks_is_refused_with_the_way_to_get_it() {
        let error = DeviceChoice::Cuda(0).open().unwrap_err().to_string();
        assert!(error.contains("--features cuda") && error.contains("--device cpu"), "{error}");
    }
}
