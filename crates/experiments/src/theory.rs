//! Figures of the noisy quadratic model.

mod regions;
mod runs;

use lopt_plot::{Color, Figure, Item, Shape};

use crate::{Result, Table};

/// A figure of the theory.
#[derive(Clone, Debug, PartialEq)]
pub struct Illustration {
    /// A name for its files.
    pub name: &'static str,
    /// The figure.
    pub figure: Figure,
    /// The numbers in the figure.
    pub numbers: Table,
}

/// Computes the figures one after the other. `seed` is that of random matrices and noise.
///
/// The items are errors if a matrix has no eigenvalues or a condition of stability does not apply,
/// neither of which happens with the settings of these figures.
pub fn illustrations(seed: u64) -> impl Iterator<Item = Result<Illustration>> {
    type Draw = fn(u64) -> Result<(Figure, Table)>;
    let all: [(&str, Draw); 8] = [
        ("eigenvalues", regions::eigenvalues),
        ("stable-region", |_| regions::stable_region()),
        ("losses", runs::losses),
        ("meta-gradients", runs::meta_gradients),
        ("robust-bounds", |_| regions::robust_bounds()),
        ("cancelling", |_| regions::cancelling()),
        ("shrinking-nominal", |_| runs::shrinking()),
        ("momentum", |_| regions::momentum()),
    ];
    all.into_iter().map(move |(name, draw)| {
        let (figure, numbers) = draw(seed)?;
        Ok(Illustration {
            name,
            figure,
            numbers,
        })
    })
}

fn item(label: &str, color: Color, shape: Shape) -> Item {
    Item::new(color, shape).labelled(label)
}
