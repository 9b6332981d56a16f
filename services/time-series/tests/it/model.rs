//! Random histories against a model that keeps every row in one vector.
