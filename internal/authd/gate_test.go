package authd

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
)

// A08: so many at once, so much memory, in the order in which they came.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2, 99)
		release := make(chan struct{})
		running, most, used, mostUsed := 0, 0, int64(0), int64(0)
		var order []int
		for i, octets := range []int64{60, 30, 20, 90, 10, 500, 10} {
			go func() {
				leave, err := g.enter(context.Background(), octets)
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, i)
				running++
				used += octets
				most = max(most, running)
				if octets <= 99 {
					mostUsed = max(mostUsed, used)
				} else if running != 1 {
					t.Errorf("what needs more than there is runs with %d others", running-1)
				}
				go func() {
					<-release
					running--
					used -= octets
					leave()
				}()
			}()
			synctest.Wait()
		}
		for range 7 {
			release <- struct{}{}
			synctest.Wait()
		}
		if most != 2 || mostUsed > 99 || fmt.Sprint(order) != "[0 1 2 3 4 5 6]" {
			t.Errorf("%d at once, %d octets, order %v", most, mostUsed, order)
		}
		if g.running != 0 || g.used != 0 || len(g.line) != 0 {
			t.Errorf("left: %+v", g)
		}
	})
}

func TestGateLetsGoOfWhoGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 0)
		leave, err := g.enter(context.Background(), 1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		gone := make(chan error, 1)
		go func() {
			_, err := g.enter(ctx, 1)
			gone <- err
		}()
		synctest.Wait()
		in := false
		go func() {
			leave, err := g.enter(context.Background(), 1)
			in = err == nil
			if in {
				leave()
			}
		}()
		synctest.Wait()
		cancel()
		if err := <-gone; err != context.Canceled {
			t.Errorf("%v", err)
		}
		synctest.Wait()
		if in {
			t.Error("two at once")
		}
		leave()
		synctest.Wait()
		if !in || g.running != 0 || len(g.line) != 0 {
			t.Errorf("in %v, left %d running, %d in line", in, g.running, len(g.line))
		}
	})
}
