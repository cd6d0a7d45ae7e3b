// Package activation has the programs started by those who start programs: systemd, s6, runit, inetd and its like, and UCSPI servers, with
// the service files of etc/. Under each, somebody else's client sends a message, which arrives, and many connections at once are served.
//
// The service directories of s6 and runit run as root, in a view of the machine in which postamt is installed: machine_test.go. The others need no
// root. The inetds are unpacked by test/deps.sh and not installed. s6-networking and s6-rc are no packages of Debian 12: their tests run where
// somebody has put the programs into PATH. It has tests only.
package activation
