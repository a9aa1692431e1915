"""Pure decisions at run time: which upstream answers a request; time comes in as `now`."""
