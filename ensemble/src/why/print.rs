//! The answer on the terminal.

use std::fmt::Write as _;

use super::diagnose::{Answer, Verdict};
use crate::terminal::Paint;

pub(crate) fn answer(answer: &Answer, paint: Paint) -> String {
    let headline = paint.bold(&answer.headline);
    let mut text = format!("{headline}\n({})\n\n", answer.facts);
    for step in &answer.steps {
        let line = format!("  {:<8} {}", step.step, step.text);
        let line = match step.flag.as_str() {
            "succeeded" => paint.green(&line),
            "refused" => paint.red(&line),
            "waiting" => paint.yellow(&line),
            _ => line,
        };
        let _ = writeln!(text, "{line}");
    }
    if !answer.because.is_empty() {
        text += "\nbecause\n";
    }
    for because in &answer.because {
        let _ = writeln!(text, "  {}", because.text);
    }
    match answer.next.is_empty() {
        true if answer.verdict == Verdict::Confirmed || answer.verdict == Verdict::Canceled => {
            text += "\nnothing is to be done\n";
        }
        true => {}
        false => text += "\nnext\n",
    }
    for next in &answer.next {
        let _ = writeln!(text, "  {}:\n    {}", next.text, paint.bold(&next.command));
    }
    for note in &answer.notes {
        let _ = writeln!(text, "\n{}", paint.dim(&format!("note: {note}")));
    }
    text.trim_end().to_owned()
}
