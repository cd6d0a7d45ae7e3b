package daemon

import "strconv"

// Ready tells the supervisor that we serve: sd_notify(3), and a line on s6's notification-fd, which is then closed.
// Errors are nobody's business: a supervisor that does not listen does not wait.
func (p *Process) Ready() {
	p.tell("READY=1")
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.notifyFD != nil {
		p.notifyFD.Write([]byte{'\n'})
		p.notifyFD.Close()
		p.notifyFD = nil
	}
}

// Reloading tells the supervisor that a reload has begun; Ready ends it.
func (p *Process) Reloading() {
	// sd_notify(3), RELOADING=1: the time tells it from an older one.
	t, ok := monotonic()
	if !ok {
		return
	}
	p.tell("RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(t, 10))
}

// Stopping tells the supervisor that we end in order.
func (p *Process) Stopping() { p.tell("STOPPING=1") }

func (p *Process) tell(state string) {
	if p.supervisor != nil {
		p.supervisor.Write([]byte(state))
	}
}
