// Package activation has the programs started by those who start programs: systemd, s6, runit, inetd and its like, and UCSPI servers, with
// the service files of etc/. It has tests only.
package activation
