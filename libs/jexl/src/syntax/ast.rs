use serde_json::Value;

use crate::transform::Applied;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// A number, text, boolean or null.
    Literal(Value),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
    /// A name of the context.
    Name(String),
    /// `.name`: a member of the element that a filter looks at.
    Relative(String),
    Member {
        of: Box<Node>,
        name: String,
    },
    Index {
        of: Box<Node>,
        index: Box<Node>,
    },
    /// `of[test]` where the test has a relative name.
    Filter {
        of: Box<Node>,
        test: Box<Node>,
    },
    Transform {
        of: Box<Node>,
        applied: Applied,
        arguments: Vec<Node>,
    },
    Unary(UnaryOperator, Box<Node>),
    Binary(BinaryOperator, Box<Node>, Box<Node>),
    Conditional {
        test: Box<Node>,
        /// None: the value of the test (`a ?: b`).
        then: Option<Box<Node>>,
        otherwise: Box<Node>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnaryOperator {
    Not,
    Minus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinaryOperator {
    And,
    Or,
    Equal,
    NotEqual,
    GreaterOrEqual,
    LessOrEqual,
    Greater,
    Less,
    In,
    Add,
    Subtract,
    Multiply,
    FloorDivide,
    Divide,
    Remainder,
    Power,
}

impl BinaryOperator {
    /// Where one text begins another, the longer one comes first.
    pub(crate) const ALL: [Self; 16] = [
        Self::And,
        Self::Or,
        Self::Equal,
        Self::NotEqual,
        Self::GreaterOrEqual,
        Self::LessOrEqual,
        Self::Greater,
        Self::Less,
        Self::In,
        Self::Add,
        Self::Subtract,
        Self::Multiply,
        Self::FloorDivide,
        Self::Divide,
        Self::Remainder,
        Self::Power,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::And => "&&",
            Self::Or => "||",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::GreaterOrEqual => ">=",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::In => "in",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::FloorDivide => "//",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Power => "^",
        }
    }

    /// Higher binds tighter. All operators group from the left, also `^`; `&&` and `||` are equals.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            Self::And | Self::Or => 10,
            Self::Equal
            | Self::NotEqual
            | Self::GreaterOrEqual
            | Self::LessOrEqual
            | Self::Greater
            | Self::Less
            | Self::In => 20,
            Self::Add | Self::Subtract => 30,
            Self::Multiply | Self::FloorDivide | Self::Divide => 40,
            Self::Remainder | Self::Power => 50,
        }
    }
}

impl Node {
    fn children(&self) -> Vec<&Self> {
        match self {
            Self::Literal(_) | Self::Name(_) | Self::Relative(_) => Vec::new(),
            Self::Array(items) => items.iter().collect(),
            Self::Object(members) => members.iter().map(|(_, node)| node).collect(),
            Self::Member { of, .. } => vec![of],
            Self::Index { of, index } => vec![of, index],
            Self::Filter { of, test } => vec![of, test],
            Self::Transform { of, arguments, .. } => std::iter::once(of.as_ref()).chain(arguments).collect(),
            Self::Unary(_, operand) => vec![operand],
            Self::Binary(_, left, right) => vec![left, right],
            Self::Conditional { test, then, otherwise } => {
                std::iter::once(test).chain(then).chain([otherwise]).map(Box::as_ref).collect()
            }
        }
    }

    /// Levels of the tree, a leaf being one.
    pub(crate) fn depth(&self) -> usize {
        1 + self.children().into_iter().map(Self::depth).max().unwrap_or(0)
    }

    /// Whether it names a member of a filter's element. A filter within it has elements of its own.
    pub(crate) fn is_relative(&self) -> bool {
        match self {
            Self::Relative(_) => true,
            Self::Filter { of, .. } => of.is_relative(),
            _ => self.children().into_iter().any(Self::is_relative),
        }
    }
}
