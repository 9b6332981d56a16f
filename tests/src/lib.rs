//! Tests of the whole mesh: black boxes, real servers, faults. What they share is here.
