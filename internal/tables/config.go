package tables

import (
	"path/filepath"

	"postamt/internal/config"
)

// Configured are the files that a configuration names. Those that it would name by default may be missing.
func Configured(c *config.Config) Files {
	dir := filepath.Dir(c.File)
	return Files{
		LocalDomains: Domains(c.LocalDomains), VirtualDomains: Domains(c.VirtualDomains), RelayDomains: Domains(c.RelayDomains),
		Aliases: c.Aliases, VirtualAliases: c.VirtualAliases, Users: c.Users, Routes: c.Routes,
		Optional:  []string{filepath.Join(dir, "aliases"), filepath.Join(dir, "users")},
		Smarthost: c.Smarthost, Delimiters: c.RecipientDelimiter, Postmaster: c.Postmaster,
	}
}
