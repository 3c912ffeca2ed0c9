//! `lopt reproduce`: the claims of the paper.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::Result;
use clap::{Args as ClapArgs, builder::PossibleValue};
use lopt_core::file;
use lopt_experiments::{
    Error, Event, Lab,
    claims::{Claim, Report},
};

use crate::{
    common::{Compute, one_of, provenance, save_figure},
    output::paragraph,
    pages,
    progress::{Bar, EvaluationBar},
    ranks::one_process,
    stop::stop_flag,
};

#[derive(ClapArgs)]
pub struct Args {
    /// The claims to reproduce. [default: all]
    #[arg(ignore_case = true, value_parser = one_of(Claim::ALL.map(|c| (described(c), c))))]
    claims: Vec<Claim>,
    /// Meta-training seeds of each optimizer.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Outer steps of each meta-training; the other settings are those of the preset `quick`.
    /// [default: 2,000, and 1,000 for the many meta-trainings of C6]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    outer_steps: Option<u64>,
    /// Give every optimizer an online scale, which those of the paper do not have. Use another `--out`
    /// for it.
    #[arg(long)]
    online_scale: bool,
    /// Folder for meta-trainings, figures and tables. The same command resumes there after an
    /// interruption.
    #[arg(long, value_name = "DIR", default_value = "reproduction")]
    out: PathBuf,
    #[command(flatten)]
    compute: Compute,
}

fn described(claim: Claim) -> PossibleValue {
    PossibleValue::new(claim.name()).help(claim.summary())
}

/// Returns whether all claims are reproduced.
pub fn run(args: Args) -> Result<bool> {
    one_process()?;
    let mut claims = args.claims.clone();
    if claims.is_empty() {
        claims = Claim::ALL.to_vec();
    }
    claims.sort();
    claims.dedup();
    for claim in &claims {
        claim.check(args.seeds)?;
    }
    let view = Mutex::new(View::default());
    let mut lab = Lab {
        out: args.out,
        seeds: args.seeds,
        outer_steps: args.outer_steps,
        online_scale: args.online_scale,
        provenance: provenance(),
        workers: args.compute.workers(),
        device: args.compute.device()?,
        store: args.compute.store(),
        stop: stop_flag()?,
        observer: &|event| {
            let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
            view.show(event);
        },
    };
    let mut reports = vec![];
    for claim in claims {
        let report = claim.reproduce(&mut lab);
        *view.lock().unwrap_or_else(PoisonError::into_inner) = View::default();
        match report {
            Err(Error::Stopped) => {
                eprintln!("stopped; the same command resumes from there");
                return Ok(false);
            }
            report => reports.push(report?),
        }
        publish(&reports, &lab.out)?;
    }
    pages::announce(&lab.out);
    Ok(true)
}

/// Prints the verdict of the last claim, writes NAME.md, with the table, NAME.svg, and the page of all
/// claims so far.
fn publish(reports: &[Report], out: &Path) -> Result<()> {
    pages::save(&pages::of_claims(reports), out)?;
    let Some(report) = reports.last() else {
        return Ok(());
    };
    let name = report.claim.name();
    save_figure(out, name, &report.figure)?;
    let table = out.join(format!("{name}.md"));
    file::write_atomically(&table, report.to_string().as_bytes())?;
    let figure = out.join(format!("{name}.svg"));
    let verdict = format!("{}: {}", report.claim.summary(), report.verdict());
    println!("{}", paragraph(&format!("{name}: "), &verdict));
    for criterion in &report.criteria {
        println!("{}", paragraph("  * ", &criterion.to_string()));
    }
    println!("table: {}\nfigure: {}\n", table.display(), figure.display());
    Ok(())
}

/// Shows the progress of a lab.
#[derive(Default)]
struct View {
    meta_training: Option<Bar>,
    evaluation: Option<EvaluationBar>,
}

impl View {
    fn show(&mut self, event: Event) {
        match event {
            Event::MetaTraining {
                variant,
                seed,
                outer_step,
                outer_steps,
            } => {
                eprintln!("meta-training {variant}, seed {seed}");
                self.meta_training = Some(Bar::new(outer_step, outer_steps, "outer steps"));
            }
            Event::OuterStep(progress) => {
                if let Some(bar) = &mut self.meta_training {
                    let message = format!("meta-loss {:.4}", progress.meta_loss);
                    bar.set(progress.outer_step, &message);
                }
            }
            Event::MetaTrained => self.meta_training = None,
            Event::Evaluation(event) => {
                if let lopt_eval::Event::Total(_) = event {
                    self.evaluation = None;
                }
                let bar = self.evaluation.get_or_insert_with(EvaluationBar::default);
                bar.show(event, |report| report.entry.title());
            }
        }
    }
}
