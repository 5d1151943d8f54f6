"""The comparison's sections: a module for each question or two, each a function from the bench to an outcome."""
