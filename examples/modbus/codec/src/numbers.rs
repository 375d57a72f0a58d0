//! Function codes and exception codes.

use core::fmt;
use core::str::FromStr;

/// What a request asks for (MBAP §6). Unknown ones survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Function(pub u8);

/// The highest bit of the function code in an answer that is an exception.
const EXCEPTION: u8 = 0x80;

impl Function {
    /// MBAP §6.1
    pub const READ_COILS: Self = Self(1);
    /// MBAP §6.2
    pub const READ_DISCRETE_INPUTS: Self = Self(2);
    /// MBAP §6.3
    pub const READ_HOLDING_REGISTERS: Self = Self(3);
    /// MBAP §6.4
    pub const READ_INPUT_REGISTERS: Self = Self(4);
    /// MBAP §6.5
    pub const WRITE_SINGLE_COIL: Self = Self(5);
    /// MBAP §6.6
    pub const WRITE_SINGLE_REGISTER: Self = Self(6);
    /// MBAP §6.11
    pub const WRITE_MULTIPLE_COILS: Self = Self(15);
    /// MBAP §6.12
    pub const WRITE_MULTIPLE_REGISTERS: Self = Self(16);
    /// MBAP §6.16
    pub const MASK_WRITE_REGISTER: Self = Self(22);
    /// MBAP §6.17
    pub const READ_WRITE_MULTIPLE_REGISTERS: Self = Self(23);

    /// Those that have a name here.
    pub const NAMED: [Self; 10] = [
        Self::READ_COILS,
        Self::READ_DISCRETE_INPUTS,
        Self::READ_HOLDING_REGISTERS,
        Self::READ_INPUT_REGISTERS,
        Self::WRITE_SINGLE_COIL,
        Self::WRITE_SINGLE_REGISTER,
        Self::WRITE_MULTIPLE_COILS,
        Self::WRITE_MULTIPLE_REGISTERS,
        Self::MASK_WRITE_REGISTER,
        Self::READ_WRITE_MULTIPLE_REGISTERS,
    ];

    /// A lower-case, stable name; `other` where there is none.
    pub const fn label(self) -> &'static str {
        match self {
            Self::READ_COILS => "read_coils",
            Self::READ_DISCRETE_INPUTS => "read_discrete_inputs",
            Self::READ_HOLDING_REGISTERS => "read_holding_registers",
            Self::READ_INPUT_REGISTERS => "read_input_registers",
            Self::WRITE_SINGLE_COIL => "write_single_coil",
            Self::WRITE_SINGLE_REGISTER => "write_single_register",
            Self::WRITE_MULTIPLE_COILS => "write_multiple_coils",
            Self::WRITE_MULTIPLE_REGISTERS => "write_multiple_registers",
            Self::MASK_WRITE_REGISTER => "mask_write_register",
            Self::READ_WRITE_MULTIPLE_REGISTERS => "read_write_multiple_registers",
            _ => "other",
        }
    }

    /// Whether a request can have it: the others are exceptions, or reserved (MBAP §4.1).
    pub const fn is_request(self) -> bool {
        self.0 != 0 && self.0 < EXCEPTION
    }

    /// The function code of an exception to this one.
    #[must_use]
    pub const fn as_exception(self) -> Self {
        Self(self.0 | EXCEPTION)
    }
}

/// The name, or the number where there is none.
impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.label() {
            "other" => write!(f, "{}", self.0),
            label => f.write_str(label),
        }
    }
}

/// By name, or by number.
impl FromStr for Function {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let named = Self::NAMED.into_iter().find(|function| function.label() == text);
        let function = named.or_else(|| text.parse().ok().map(Self));
        function.filter(|function| function.is_request()).ok_or(())
    }
}

/// Why a request was not carried out (MBAP §7). Unknown ones survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Exception(pub u8);

impl Exception {
    /// The function is not allowed.
    pub const ILLEGAL_FUNCTION: Self = Self(0x01);
    /// There is no such address.
    pub const ILLEGAL_DATA_ADDRESS: Self = Self(0x02);
    /// The request contradicts itself.
    pub const ILLEGAL_DATA_VALUE: Self = Self(0x03);
    /// The server failed while it carried the request out.
    pub const SERVER_DEVICE_FAILURE: Self = Self(0x04);
    /// The request is to be sent again later.
    pub const SERVER_DEVICE_BUSY: Self = Self(0x06);
    /// The gateway knows no way to the device.
    pub const GATEWAY_PATH_UNAVAILABLE: Self = Self(0x0a);
    /// The device does not answer the gateway.
    pub const GATEWAY_TARGET_FAILED: Self = Self(0x0b);

    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ILLEGAL_FUNCTION => "illegal_function",
            Self::ILLEGAL_DATA_ADDRESS => "illegal_data_address",
            Self::ILLEGAL_DATA_VALUE => "illegal_data_value",
            Self::SERVER_DEVICE_FAILURE => "server_device_failure",
            Self::SERVER_DEVICE_BUSY => "server_device_busy",
            Self::GATEWAY_PATH_UNAVAILABLE => "gateway_path_unavailable",
            Self::GATEWAY_TARGET_FAILED => "gateway_target_failed",
            _ => "other",
        }
    }
}
