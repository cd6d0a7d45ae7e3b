package tables

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"postamt/internal/config"
)

// Configured are the files that a configuration names. Those that it would name by default may be missing.
func Configured(c *config.Config) Files {
	var optional []string
	for _, name := range []string{"aliases", "users"} {
		if path := filepath.Join(filepath.Dir(c.File), name); !c.Names(path) {
			optional = append(optional, path)
		}
	}
	return Files{
		LocalDomains: Domains(c.LocalDomains), VirtualDomains: Domains(c.VirtualDomains), RelayDomains: Domains(c.RelayDomains),
		Aliases: c.Aliases, VirtualAliases: c.VirtualAliases, Users: c.Users, Routes: c.Routes,
		Optional:  optional,
		Smarthost: c.Smarthost, Delimiters: c.RecipientDelimiter, Postmaster: c.Postmaster,
		SRSKeys: c.SRSKeys, SRSDomain: c.SRSDomain,
	}
}

// AliasFiles are the alias files that a configuration names, and that are there if they may be missing: what newaliases compiles.
func AliasFiles(c *config.Config) []string {
	f := Configured(c)
	return slices.DeleteFunc(slices.Concat(f.VirtualAliases, f.Aliases), func(path string) bool {
		_, err := os.Stat(path)
		return errors.Is(err, fs.ErrNotExist) && slices.Contains(f.Optional, path)
	})
}
