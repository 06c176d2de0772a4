package coord

import (
	"context"
	"runtime"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/semaphore"
)

// A hashing makes and compares the slow hashes of native users' passwords.
type hashing struct {
	// places bounds how many are made at a time, to a quarter of the process's cores:
	// a flood of logins leaves the rest to its work.
	places *semaphore.Weighted

	cost int // the binary logarithm of bcrypt's rounds

	// nobodys is what the passwords of users that do not exist are compared with, so
	// that the time of the answer tells nobody who exists. It is of the same cost.
	nobodys string
}

const (
	// passwordCost takes about 75 ms of one core, and is the least that OWASP's
	// Password Storage Cheat Sheet recommends. Each more would double what a password
	// costs whoever has stolen the hashes, but also how long clients wait that all
	// come to this member when another has died: they show their passwords anew with
	// every connection.
	passwordCost = 10

	nobodysHash = "$2a$10$sQIOONFoBTI.l1GHMsFHIeAL9yv1JOJh8bLInUiWC3HFI7TsZ/uOG"

	// nobodysCheapHash is for ensembles in memory. They are for tests, and nothing is
	// behind their passwords.
	nobodysCheapHash = "$2a$04$W1HXYwHycRBxrH4zbap9BevwjVKyItAAXVyMsu9tnYTUhLAhDiEkW"
)

func newHashing(inMemory bool) *hashing {
	h := &hashing{places: semaphore.NewWeighted(int64(max(1, runtime.GOMAXPROCS(0)/4))), cost: passwordCost, nobodys: nobodysHash}
	if inMemory {
		h.cost, h.nobodys = bcrypt.MinCost, nobodysCheapHash
	}
	return h
}

// hash returns a new hash of a password, which is valid, when it is this caller's turn.
func (h *hashing) hash(ctx context.Context, password string) ([]byte, error) {
	if err := h.places.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	defer h.places.Release(1)
	return bcrypt.GenerateFromPassword([]byte(password), h.cost)
}

// matches reports whether a hash is that of a password, when it is this caller's turn.
func (h *hashing) matches(ctx context.Context, hash, password string) (bool, error) {
	if err := h.places.Acquire(ctx, 1); err != nil {
		return false, context.Cause(ctx)
	}
	defer h.places.Release(1)
	mismatch := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password))
	return mismatch == nil, nil
}
