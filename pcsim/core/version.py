"""The version of pcsim: the build reads it from here, as do runs and results that record it."""

VERSION = "0.2.0"
