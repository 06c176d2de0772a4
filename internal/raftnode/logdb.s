// This file lets logdb.go declare a function without a body.
