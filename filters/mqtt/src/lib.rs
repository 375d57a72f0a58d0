//! The MQTT filter: sessions as HTTP/2 streams, and an observer for plain TCP proxying.
