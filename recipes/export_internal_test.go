package recipes

// Readers returns how many loops over the changes of a cache there are.
func (k *Cache[T]) Readers() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.readers)
}
