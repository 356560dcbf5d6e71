"""The shell around the core: sockets, timer, signals, log, the ops process. The only room with an event loop
on the path of a call."""
