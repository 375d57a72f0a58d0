//! A sans-IO engine that carries a native protocol to the next filter as HTTP/2.
