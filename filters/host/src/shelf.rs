//! Values that all workers share.

use bridge::Shelf;
use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

/// Proxy-wasm's shared data: all virtual machines with the same `vm_id`, on all workers.
///
/// It has no way to store a key only if nobody else has: of two workers that store the first value of
/// a key at the same moment, one is lost. From then on [`Shelf::store`] does what it promises.
#[derive(Debug)]
pub struct SharedData;

impl Shelf for SharedData {
    fn load(&self, key: &str) -> (Vec<u8>, u32) {
        let (value, number) = hostcalls::get_shared_data(key).unwrap_or_default();
        // A key that nobody has stored has no number, and 0 means that whatever is there is replaced.
        (value.unwrap_or_default(), number.unwrap_or_default())
    }

    fn store(&self, key: &str, value: &[u8], number: u32) -> bool {
        let cas = (number > 0).then_some(number);
        match hostcalls::set_shared_data(key, Some(value), cas) {
            Ok(()) => true,
            Err(Status::CasMismatch) => false,
            Err(status) => {
                log::warn!("a value was not kept: {status:?}");
                true
            }
        }
    }
}
