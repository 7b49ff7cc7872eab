package limits

import "slices"

// dir is the group of a controller.
func (g *Group) dir(controller string) (directory, bool) {
	for _, d := range g.dirs {
		if slices.Contains(d.controllers, controller) {
			return d, true
		}
	}
	return directory{}, false
}

// OOM is how many processes the kernel killed because the memory limit was reached.
func (g *Group) OOM() int {
	d, ok := g.dir("memory")
	if !ok {
		return 0
	}
	file := "memory.oom_control"
	if d.v2() {
		file = "memory.events"
	}
	data, _ := readShow(d.path + "/" + file)
	return int(max(field(data, "oom_kill"), 0))
}
