//! What one key means when operations come one after another.
use stateright::semantics::SequentialSpec;

/// A value; clients write different ones.
pub type Value = u8;
/// The value that every model begins with.
pub const FIRST: Value = b'a';

/// An operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ask {
    /// Linearizable read.
    Get,
    /// A page of the shard.
    Scan,
    /// Write.
    Put(Value),
    /// Delete.
    Delete,
    /// Write if the revision is that of [`FIRST`].
    Cas(Value),
}

/// Its answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Told {
    /// What the key holds.
    Value(Option<Value>),
    /// It was written.
    Written,
    /// It was deleted; whether there was a value.
    Deleted(bool),
    /// Whether it was applied.
    Compared(bool),
    /// It had no effect: nobody served it.
    Nothing,
}

/// A key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Register {
    /// What it holds.
    pub value: Option<Value>,
    /// The first value has a time to live: it may vanish, once and for all.
    pub mortal: bool,
}

impl Register {
    fn vanishes(&mut self) -> bool {
        let mortal = self.mortal && self.value == Some(FIRST);
        if mortal {
            self.value = None;
        }
        mortal
    }
}

impl SequentialSpec for Register {
    type Op = Ask;
    type Ret = Told;

    fn invoke(&mut self, op: &Ask) -> Told {
        match *op {
            Ask::Get | Ask::Scan => Told::Value(self.value),
            Ask::Put(value) => {
                self.value = Some(value);
                Told::Written
            }
            Ask::Delete => Told::Deleted(self.value.take().is_some()),
            Ask::Cas(value) => {
                let applied = self.value == Some(FIRST);
                if applied {
                    self.value = Some(value);
                }
                Told::Compared(applied)
            }
        }
    }

    fn is_valid_step(&mut self, op: &Ask, ret: &Told) -> bool {
        if *ret == Told::Nothing {
            return true;
        }
        let before = *self;
        if self.invoke(op) == *ret {
            return true;
        }
        *self = before;
        self.vanishes() && self.invoke(op) == *ret
    }
}
