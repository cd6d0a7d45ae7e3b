package main

func top(c *command) error { return errUsage }
