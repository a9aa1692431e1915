"""Commands of `modelctl` that change something: each module has one `command`."""
