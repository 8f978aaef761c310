//! The real oslo.messaging at the other end: Python asks us, we ask Python, and the broker between us dies.
//!
//! Every test runs with the newest release and with the oldest one that Manila has had in the releases that we replace.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]

mod kit;
mod python_asks;
mod python_serves;
mod restart;

/// Makes two tests of each function: one for each release. A function gives up where a machine has not what it needs.
macro_rules! with_both_releases {
    ($($name:ident),+ $(,)?) => {
        mod newest {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    if let Err(reason) = super::$name($crate::kit::NEWEST).await {
                        testkit::disk::skip(concat!("newest::", stringify!($name)), &reason);
                    }
                }
            )+
        }

        mod oldest {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    if let Err(reason) = super::$name($crate::kit::OLDEST).await {
                        testkit::disk::skip(concat!("oldest::", stringify!($name)), &reason);
                    }
                }
            )+
        }
    };
}

use with_both_releases;
