package sim_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"coord"
	"coord/recipes"
)

// A job is some tasks that processes run together.
type job struct {
	dir   string
	tasks map[string]*task
}

// startJobs starts those who run jobs. They throw dice from id on.
func (s *shares) startJobs(id uint64) {
	for i := range uint64(4) {
		s.w.working.Go(func() { s.runJobs(id + i) })
	}
}

// runJobs is one process after another that runs one job after another.
func (s *shares) runJobs(id uint64) {
	dice := s.w.dice(id)
	for !s.w.stopping.Load() {
		sleep(between(dice, 0, 2*time.Second))
		proc := s.w.any(dice)
		if proc == nil {
			continue
		}
		j := s.job(proc)
		if j == nil {
			continue
		}
		given, run := map[string]*task{}, map[string]func(context.Context, *recipes.Held) error{}
		for i := range tasksPerJob {
			if name := fmt.Sprint(i); dice.IntN(4) != 0 { // not all know of all
				given[name] = j.tasks[name]
				run[name] = s.taskOf(id, proc, j.tasks[name])
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), between(dice, 0, 2*time.Minute))
		stop := s.w.whenStopping(cancel)
		err := recipes.RunTasks(ctx, proc.c, j.dir, 1+dice.IntN(3), run)
		cancel()
		stop()
		switch {
		case err == nil:
			s.c.count("jobs")
			for _, t := range given {
				t.toldDone()
			}
		case !excusedRecipe(err, errUndone):
			s.w.violate("liveness: RunTasks: %v", err)
		}
	}
}

// taskOf returns how a process does a task.
func (s *shares) taskOf(id uint64, proc *process, t *task) func(context.Context, *recipes.Held) error {
	return func(_ context.Context, h *recipes.Held) error {
		n := &contender{c: s.c, id: id, dice: s.w.dice(uint64(h.Fence())), p: proc}
		g := n.enter(t.place, h, h.Check, 1)
		t.begins(g)
		n.pause(h)
		n.use(t.place, g, h)
		t.ending(g)
		if n.dice.IntN(8) == 0 {
			return errUndone
		}
		t.tries()
		return nil
	}
}

const tasksPerJob = 5

// job returns the job that is to be done, the next one if that is done.
func (s *shares) job(proc *process) *job {
	s.mu.Lock()
	k := len(s.jobs)
	if k > 0 && !s.jobs[k-1].isDone() {
		defer s.mu.Unlock()
		return s.jobs[k-1]
	}
	s.mu.Unlock()
	j := &job{dir: fmt.Sprintf("%s/job-%d", sharesDir, k), tasks: map[string]*task{}}
	for i := range tasksPerJob {
		name := fmt.Sprint(i)
		pl := newPlace(fmt.Sprintf("%s-%s", j.dir, name), placeKind{name: "task", limit: 1}, s.w.violate)
		j.tasks[name] = &task{place: pl, dir: j.dir + "/" + name}
		if _, _, err := proc.c.Create(context.Background(), pl.guardedPath(), []byte("0")); err != nil && !errors.Is(err, coord.ErrNodeExists) {
			return nil // it does not work now
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.jobs) != k {
		return nil // somebody was faster
	}
	s.jobs = append(s.jobs, j)
	return j
}

func (j *job) isDone() bool {
	for _, t := range j.tasks {
		if !t.isDone() {
			return false
		}
	}
	return true
}

// toldDone is to be told when somebody was told that it is done, by whomever.
func (t *task) toldDone() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = true
	if t.tried == 0 {
		t.violate("tasks: %s is done, but nobody has done it", t.dir)
	}
}
