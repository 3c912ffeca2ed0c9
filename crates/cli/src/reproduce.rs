//! `lopt reproduce`: the paper's claims, each with its numbers.

mod ablations;
mod distribution;
mod horizon;
mod lab;
mod report;
mod seeds;
mod spread;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args as ClapArgs, ValueEnum};

use crate::{common::Compute, ranks::one_process};

use self::lab::Lab;

#[derive(ClapArgs)]
pub struct Args {
    /// Which claims. [default: all]
    #[arg(ignore_case = true)]
    claims: Vec<Claim>,
    /// Meta-training seeds of each optimizer.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Outer steps of each meta-training, otherwise by the preset `quick`. [default: 2,000, and
    /// 1,000 for the many ones of C6]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    outer_steps: Option<u64>,
    /// Folder for meta-trainings, figures and tables; the same command goes on there after an
    /// interruption.
    #[arg(long, value_name = "DIR", default_value = "reproduction")]
    out: PathBuf,
    #[command(flatten)]
    compute: Compute,
}

/// A claim of the paper (arXiv 2209.11208).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "UPPER")]
enum Claim {
    /// STAR meta-trains faster than the blackbox.
    C1,
    /// STAR is more stable across meta-training seeds.
    C2,
    /// STAR keeps descending up to 100 times its horizon; the blackbox diverges.
    C3,
    /// STAR generalises to other tasks; the blackbox diverges or falls behind.
    C4,
    /// STAR is comparable to Adam with a tuned learning rate.
    C5,
    /// Every part of STAR helps, and weight decay between 0.1 and 0.5.
    C6,
}

/// Returns whether all of it is over.
pub fn run(args: Args) -> Result<bool> {
    one_process()?;
    let mut claims = args.claims.clone();
    if claims.is_empty() {
        claims = Claim::value_variants().to_vec();
    }
    claims.sort();
    claims.dedup();
    let mut lab = Lab::new(args.out, args.seeds, args.outer_steps, &args.compute)?;
    for claim in claims {
        let report = match claim {
            Claim::C1 => seeds::faster(&mut lab),
            Claim::C2 => seeds::more_stable(&mut lab),
            Claim::C3 => horizon::keeps_descending(&mut lab),
            Claim::C4 => distribution::generalises(&mut lab),
            Claim::C5 => distribution::comparable_to_adam(&mut lab),
            Claim::C6 => ablations::every_part_helps(&mut lab),
        };
        match report {
            Err(error) if lab::is_stop(&error) => {
                eprintln!("stopped; the same command goes on from there");
                return Ok(false);
            }
            report => report?.publish(&format!("{claim:?}"), lab.out())?,
        }
    }
    Ok(true)
}
