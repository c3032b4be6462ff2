//! An answer in JSON: `{"value": …}`, or `{"errno": 22, "name": "EINVAL"}`.

use disk::Errno;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Value {
        value: T,
    },
    Failed {
        errno: i32,
        #[serde(skip_deserializing)]
        name: String,
    },
}

pub fn serialize<T: Serialize, S: Serializer>(
    answer: &Result<T, Errno>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match answer {
        Ok(value) => Answer::Value { value },
        Err(errno) => Answer::Failed { errno: errno.0, name: errno.to_string() },
    }
    .serialize(serializer)
}

pub fn deserialize<'a, T: Deserialize<'a>, D: Deserializer<'a>>(
    deserializer: D,
) -> Result<Result<T, Errno>, D::Error> {
    Ok(match Answer::deserialize(deserializer)? {
        Answer::Value { value } => Ok(value),
        Answer::Failed { errno, .. } => Err(Errno(errno)),
    })
}
