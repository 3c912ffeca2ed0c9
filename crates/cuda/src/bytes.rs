//! Structures of the device's memory as bytes, without `unsafe`.

/// A value with a fixed layout in the device's memory.
pub trait Bytes {
    /// The number of bytes.
    const SIZE: usize;

    /// Appends the bytes.
    fn put(&self, to: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Bytes for $number {
            const SIZE: usize = size_of::<$number>();

            fn put(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_ne_bytes());
            }
        }
    )*};
}

numbers!(u32, u64, f32, f64);

impl<T: Bytes, const N: usize> Bytes for [T; N] {
    const SIZE: usize = N * T::SIZE;

    fn put(&self, to: &mut Vec<u8>) {
        self.iter().for_each(|value| value.put(to));
    }
}

/// Returns the bytes of some values.
pub fn bytes_of<T: Bytes>(values: &[T]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * T::SIZE);
    values.iter().for_each(|value| value.put(&mut bytes));
    bytes
}

/// Declares a structure that C++ has too: without padding, of a size in bytes that is checked.
macro_rules! device_structure {
    (
        $(#[$meta:meta])*
        $name:ident, $size:literal bytes {
            $($(#[$field_meta:meta])* $field:ident: $kind:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $kind,)*
        }

        impl $crate::bytes::Bytes for $name {
            const SIZE: usize = $size;

            fn put(&self, to: &mut Vec<u8>) {
                $(self.$field.put(to);)*
            }
        }

        const _: () = {
            use $crate::bytes::Bytes;
            assert!(size_of::<$name>() == $size);
            assert!(0 $(+ <$kind as Bytes>::SIZE)* == $size, "padding");
        };
    };
}

pub(crate) use device_structure;
