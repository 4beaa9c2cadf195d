//! The descriptors of all rpcs and of the details of errors, read once.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use prost_reflect::{DescriptorPool, MessageDescriptor};

use crate::wire;

/// The messages of one rpc.
pub struct Method {
    /// The request.
    pub request: MessageDescriptor,
    /// The answer.
    pub answer: MessageDescriptor,
}

/// The messages of all rpcs, by path.
pub static METHODS: LazyLock<HashMap<String, Arc<Method>>> = LazyLock::new(|| {
    let mut methods = HashMap::new();
    for descriptors in [
        wire::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        let pool = DescriptorPool::decode(descriptors).expect("the build made them");
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            methods.insert(path, Arc::new(Method { request: method.input(), answer: method.output() }));
        }
    }
    methods
});

/// The messages of the details of errors.
pub static DETAILS: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).expect("tonic-types made them"));
