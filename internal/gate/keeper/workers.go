package keeper

// spares is how many goroutines wait for work. A new one begins with a small stack, which is copied several times until it is large enough for a connection.
const spares = 16

// workers are goroutines that have served a connection, and serve the next.
type workers struct {
	jobs  chan func()
	spare chan struct{} // one for each that waits
	over  chan struct{} // closed when no more come
}

func newWorkers() workers {
	return workers{jobs: make(chan func()), spare: make(chan struct{}, spares), over: make(chan struct{})}
}

// do does not wait for the job, and always has a goroutine for it.
func (w *workers) do(job func()) {
	select {
	case w.jobs <- job:
	default:
		go w.work(job)
	}
}

func (w *workers) work(job func()) {
	for {
		job()
		select {
		case w.spare <- struct{}{}:
		default:
			return
		}
		select {
		case job = <-w.jobs:
			<-w.spare
		case <-w.over:
			return
		}
	}
}
