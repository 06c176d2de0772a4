package coord

// Registrations returns what is registered, in no order, and one for each type at a path;
// at most limit of them, because this member tells no watch anything while they are
// copied.
func (ws *WatchSet) Registrations(limit int) []Registration {
	ws.hub.mu.Lock()
	defer ws.hub.mu.Unlock()
	var list []Registration
	for path, r := range ws.regs {
		for _, t := range []WatcherType{ChildrenWatcher, DataWatcher, PersistentWatcher, PersistentRecursiveWatcher} {
			if len(list) >= limit {
				return list
			}
			if r.modes&t.modes() != 0 {
				list = append(list, Registration{Path: path, Type: t})
			}
		}
	}
	return list
}
