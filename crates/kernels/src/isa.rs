//! The instruction set that a kernel uses, chosen at run time.

use std::{fmt, sync::OnceLock};

/// An instruction set of the kernels. A value is proof that the processor supports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// Plain Rust, supported on every machine.
    pub const PORTABLE: Isa = Isa(Kind::Portable);

    /// The widest instruction set that this machine supports; detected once.
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa::all().last().copied().unwrap_or(Isa::PORTABLE))
    }

    /// Every instruction set that this machine supports, narrowest first.
    pub fn all() -> Vec<Isa> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut))]
        let mut all = vec![Isa::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 {
                all.push(Isa(Kind::Avx2));
            }
            if avx2 && is_x86_feature_detected!("avx512f") {
                all.push(Isa(Kind::Avx512));
            }
        }
        all
    }

    /// The name: `portable`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }

    pub(crate) fn kind(self) -> Kind {
        self.0
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Defines `$name(isa, …)`, which runs the generic `$body(token, …)` compiled for the instruction
/// set `isa`. `$body` and every function that it calls with vectors must be `#[inline(always)]`:
/// only then are they compiled with those instructions.
macro_rules! dispatch {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident $(<const $n:ident: usize>)? =
        $body:ident ( $($arg:ident : $ty:ty),* $(,)? ) $(-> $ret:ty)?
    ) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name$(<const $n: usize>)?(isa: $crate::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512$(<const $n: usize>)?($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: this function has the target feature.
                $body(unsafe { $crate::simd::Avx512::new() }, $($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2$(<const $n: usize>)?($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: this function has the target features.
                $body(unsafe { $crate::simd::Avx2::new() }, $($arg),*)
            }
            match isa.kind() {
                $crate::isa::Kind::Portable => $body($crate::simd::Portable, $($arg),*),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Isa` of this kind exists only where the processor has it.
                $crate::isa::Kind::Avx2 => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Isa` of this kind exists only where the processor has it.
                $crate::isa::Kind::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}

pub(crate) use dispatch;
