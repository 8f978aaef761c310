//! The process that copies: locked into the two trees, it takes orders from the keeper and tells how far it is.

use std::io::{BufReader, stdin, stdout};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use copy::StopReason as EngineStop;
use job::WorkEvent;

use super::worker::name_process;
use crate::protocol::{self, Order, Told};
use crate::run::{Live, Trees, run_pass};
use crate::sandbox::{self, SandboxSpec};

pub(super) fn run() -> Result<ExitCode, String> {
    name_process(c"data-mover");
    let mut orders = BufReader::new(stdin());
    let document = match protocol::read(&mut orders) {
        Ok(Some(Order::Move(document))) => document,
        Ok(_) => return Err("the mover was not told what to move".into()),
        Err(error) => return Err(error.to_string()),
    };
    let order = document.pass.into_order(&document.secrets);
    let trees = Trees { source: document.source, dest: document.dest };
    let out = Mutex::new(stdout());
    let tell = |told: &Told| {
        let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
        // The keeper is gone: then the orders have ended too, which stops the run.
        let _ = protocol::write(&mut *out, told);
    };
    // Before the first thread: those that come later are in the sandbox too.
    let last_word = match sandbox::enter(&SandboxSpec::of(&order, &trees, document.sandbox)) {
        Err(failure) => Told::Failed { failure },
        Ok(notes) => {
            for text in notes {
                tell(&Told::Notice { text });
            }
            let live = Arc::new(Live::default());
            let obeying = live.clone();
            std::thread::Builder::new()
                .name("orders".into())
                .spawn(move || obey(&mut orders, &obeying))
                .map_err(|error| format!("cannot start a thread: {error}"))?;
            match run_pass(&order, &trees, &live, &|event| tell(&event.into())) {
                Ok(result) => Told::Done { result },
                Err(failure) => Told::Failed { failure },
            }
        }
    };
    tell(&last_word);
    Ok(ExitCode::SUCCESS)
}

/// Follows orders until they end, which is one too: stop.
fn obey(orders: &mut impl std::io::BufRead, live: &Live) {
    while let Ok(Some(order)) = protocol::read(orders) {
        if let Order::Control(control) = order {
            live.obey(&control.into());
        }
    }
    live.stop.stop(EngineStop::Shutdown);
}

impl From<WorkEvent> for Told {
    fn from(event: WorkEvent) -> Self {
        match event {
            WorkEvent::Mounted => Self::Mounted,
            WorkEvent::Progress(progress) => Self::Progress { progress },
            WorkEvent::Warning(text) => Self::Warning { text },
            WorkEvent::Summary(summary) => Self::Summary { summary },
        }
    }
}

#[cfg(test)]
mod tests {
    use job::{Control, StopReason};

    use super::*;

    #[test]
    fn orders_change_a_run_and_their_end_stops_it() {
        let live = Live::default();
        let mut lines = Vec::new();
        let control =
            protocol::ControlDocument { bandwidth_bytes_per_second: Some(7), ..protocol::ControlDocument::default() };
        lines.extend(protocol::encode(&Order::Control(control)).expect("encodes"));
        obey(&mut &lines[..], &live);
        assert_eq!((live.throttle.bandwidth(), live.stop.reason()), (Some(7), Some(EngineStop::Shutdown)));
    }

    #[test]
    fn every_reason_stops_the_engine() {
        for (reason, expected) in [
            (StopReason::Shutdown, EngineStop::Shutdown),
            (StopReason::LostLease, EngineStop::Shutdown),
            (StopReason::Pause, EngineStop::Shutdown),
            (StopReason::Deadline, EngineStop::Deadline),
            (StopReason::Cancel, EngineStop::Cancel),
        ] {
            let live = Live::default();
            live.obey(&Control { stop: Some(reason), ..Control::default() });
            assert_eq!(live.stop.reason(), Some(expected));
        }
    }
}
